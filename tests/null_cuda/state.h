// What the parts of the null CUDA share: devices, memory, streams, and how a rule is enforced.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))
typedef std::function<void()> Work;

// CUDA's own numbers (driver_types.h, cuda.h, cublas_api.h)
enum {
    SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_IMAGE = 200, FILE_NOT_FOUND = 301,
    INVALID_HANDLE = 400, NOT_FOUND = 500, CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901,
    CAPTURE_UNMATCHED = 903, CAPTURE_UNJOINED = 904, CAPTURE_ISOLATION = 905,
    CAPTURE_IMPLICIT = 906, CAPTURED_EVENT = 907,
};
enum { MODE_GLOBAL = 0, MODE_THREAD_LOCAL = 1, MODE_RELAXED = 2 };

struct Stream;
struct Capture {
    std::vector<Stream*> streams;  // the one that began it, and those that joined it
    int mode;
    bool open = true, invalid = false;
    std::vector<Work> work;  // in the order it was submitted in, which the events allow
};
struct Stream {
    int device = 0;
    unsigned flags = 0;
    bool legacy = false;
    std::shared_ptr<Capture> capture;
    std::map<Stream*, long> clock;  // in a capture: how much of each stream is before later work
};

Stream* stream_of(void* handle);  // null, 1 and 2 are the device's default stream
int refuse(int code, const char* format, ...);  // says why on standard error
int check_prohibited(const char* what);  // of a call that a strict capture does not allow
bool on_device(const void* p, size_t size, int* device = nullptr);
int current_device();
void count_launch();

// Does the work at once, or records it if the stream is being captured.
int submit(Stream* stream, Work work);

extern std::recursive_mutex lock;
#define LOCKED std::lock_guard<std::recursive_mutex> guard(lock)
