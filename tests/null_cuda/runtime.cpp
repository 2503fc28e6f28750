// The CUDA runtime on the host's memory: devices, memory, streams, capture, graphs and events.
//
// A stream's work is done when it is submitted; while a stream is being captured, it is recorded.
// What CUDA refuses is refused: the comment at each rule says which.
#include <sys/mman.h>

#include <cstdarg>

#include "state.h"

std::recursive_mutex lock;

static const size_t POISONED = 64 << 20;  // bytes of a new block that are NaN; more would take long

struct Graph {
    std::vector<Work> work;
};
struct Event {
    int device = 0;
    std::shared_ptr<Capture> capture;  // if it was recorded in one
    std::map<Stream*, long> clock;
};
struct Block {
    size_t size;
    int device;
};

static thread_local int device_now = 0;
static std::map<uintptr_t, Block> blocks, pinned;
static std::map<int, Stream> defaults;
static std::map<Stream*, bool> streams;
static std::map<int, size_t> used, peak;
static int capturing_strictly = 0, capturing = 0;
static long launches = 0, graph_launches = 0, refusals = 0;

static size_t setting(const char* name, size_t otherwise) {
    const char* text = getenv(name);
    return text ? strtoull(text, nullptr, 10) : otherwise;
}
static int devices() { return (int)setting("MINIALEX_NULL_DEVICES", 2); }
static size_t memory_of_device() { return setting("MINIALEX_NULL_MEMORY", (size_t)80 << 30); }

int refuse(int code, const char* format, ...) {
    va_list list;
    va_start(list, format);
    fprintf(stderr, "null CUDA: ");
    vfprintf(stderr, format, list);
    fprintf(stderr, "\n");
    va_end(list);
    ++refusals;
    return code;
}

int current_device() { return device_now; }
void count_launch() { ++launches; }

Stream* stream_of(void* handle) {
    if ((uintptr_t)handle <= 2) {
        Stream& found = defaults[device_now];
        found.device = device_now, found.legacy = true;
        return &found;
    }
    return (Stream*)handle;
}

int submit(Stream* stream, Work work) {
    LOCKED;
    if (!stream->capture) return work(), SUCCESS;
    stream->capture->work.push_back(work);
    ++stream->clock[stream];
    return SUCCESS;
}

bool on_device(const void* p, size_t size, int* device) {
    LOCKED;
    auto after = blocks.upper_bound((uintptr_t)p);
    if (after == blocks.begin()) return false;
    --after;
    if ((uintptr_t)p + size > after->first + after->second.size) return false;
    if (device) *device = after->second.device;
    return true;
}

static bool in_pinned(const void* p, size_t size) {
    auto after = pinned.upper_bound((uintptr_t)p);
    if (after == pinned.begin()) return false;
    --after;
    return (uintptr_t)p + size <= after->first + after->second.size;
}

// Rule: while a stream is captured in any but the relaxed mode, calls that may synchronise are errors.
int check_prohibited(const char* what) {
    if (!capturing_strictly) return SUCCESS;
    for (auto& one : streams)
        if (one.first->capture) one.first->capture->invalid = true;
    return refuse(CAPTURE_UNSUPPORTED, "%s during a capture that is not relaxed", what);
}

// ---------------------------------------------------------------- for the tests

API long null_launches() { return launches; }
API long null_graph_launches() { return graph_launches; }
API long null_refusals() { return refusals; }
API size_t null_peak(int device) { return peak[device]; }

// ---------------------------------------------------------------- errors and versions

API const char* cudaGetErrorName(int code) {
    switch (code) {
        case OUT_OF_MEMORY: return "cudaErrorMemoryAllocation";
        case CAPTURE_UNSUPPORTED: return "cudaErrorStreamCaptureUnsupported";
        case CAPTURE_INVALIDATED: return "cudaErrorStreamCaptureInvalidated";
        case CAPTURE_UNJOINED: return "cudaErrorStreamCaptureUnjoined";
        case CAPTURE_ISOLATION: return "cudaErrorStreamCaptureIsolation";
        case CAPTURE_IMPLICIT: return "cudaErrorStreamCaptureImplicit";
        case 101: return "cudaErrorInvalidDevice";
    }
    return "cudaErrorInvalidValue";
}
API const char* cudaGetErrorString(int) { return "refused by the null CUDA"; }
API int cudaGetLastError() { return SUCCESS; }
API int cudaPeekAtLastError() { return SUCCESS; }
API int cudaDriverGetVersion(int* version) { return *version = 13000, SUCCESS; }
API int cudaRuntimeGetVersion(int* version) { return *version = 13000, SUCCESS; }
API int cudaProfilerStart() { return SUCCESS; }
API int cudaProfilerStop() { return SUCCESS; }

// ---------------------------------------------------------------- devices

API int cudaGetDeviceCount(int* count) { return *count = devices(), SUCCESS; }
API int cudaGetDevice(int* device) { return *device = device_now, SUCCESS; }
API int cudaSetDevice(int device) {
    if (device < 0 || device >= devices()) return 101;
    return device_now = device, SUCCESS;
}
API int cudaDeviceGetAttribute(int* value, int attribute, int) {
    switch (attribute) {  // cudaDevAttr...
        case 1: *value = 1024; break;    // MaxThreadsPerBlock
        case 8: *value = 49152; break;   // MaxSharedMemoryPerBlock
        case 10: *value = 32; break;     // WarpSize
        case 16: *value = 132; break;    // MultiProcessorCount
        case 75: *value = 9; break;      // ComputeCapabilityMajor
        case 97: *value = 232448; break;  // MaxSharedMemoryPerBlockOptin
        default: *value = 0;
    }
    return SUCCESS;
}
// CUDA 13's cudaDeviceProp.
struct Properties {
    char name[256], uuid[16], luid[8];
    unsigned mask;
    size_t memory, shared;
    int registers, warp;
    size_t pitch;
    int threads, dimensions[3], grid[3];
    size_t constant;
    int major, minor;
    size_t alignment, texture_pitch;
    int multiprocessors, others[52], l2_cache, more[102];
};
static_assert(offsetof(Properties, l2_cache) == 596 && sizeof(Properties) == 1008, "as in CUDA 13");
API int cudaGetDeviceProperties(Properties* p, int device) {
    if (device < 0 || device >= devices()) return 101;
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "Null H100 %d", device);
    p->memory = memory_of_device(), p->shared = 49152, p->registers = 65536, p->warp = 32;
    p->threads = 1024, p->major = 9, p->multiprocessors = 132;
    p->l2_cache = 4096;  // so small that tests need few copies of their arrays to exceed it
    return SUCCESS;
}
API int cudaDeviceCanAccessPeer(int* value, int, int) { return *value = 1, SUCCESS; }
API int cudaDeviceEnablePeerAccess(int, unsigned) { return SUCCESS; }
API int cudaDeviceDisablePeerAccess(int) { return SUCCESS; }
API int cudaDeviceSynchronize() {
    // rule: forbidden in every mode while the device has a stream that is being captured
    if (capturing) return refuse(CAPTURE_UNSUPPORTED, "cudaDeviceSynchronize during a capture");
    return SUCCESS;
}

// ---------------------------------------------------------------- memory

API int cudaMalloc(void** p, size_t size) {
    LOCKED;
    if (int code = check_prohibited("cudaMalloc")) return code;
    if (used[device_now] + size > memory_of_device()) return OUT_OF_MEMORY;
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    *p = mmap(nullptr, size ? size : 1, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (*p == MAP_FAILED) return OUT_OF_MEMORY;
    memset(*p, 0xff, size < POISONED ? size : POISONED);  // NaN in every float type
    blocks[(uintptr_t)*p] = {size, device_now};
    used[device_now] += size;
    if (used[device_now] > peak[device_now]) peak[device_now] = used[device_now];
    return SUCCESS;
}
API int cudaFree(void* p) {
    LOCKED;
    if (!p) return SUCCESS;
    if (int code = check_prohibited("cudaFree")) return code;
    auto found = blocks.find((uintptr_t)p);
    if (found == blocks.end()) return refuse(INVALID_VALUE, "cudaFree of an unknown address");
    used[found->second.device] -= found->second.size;
    munmap(p, found->second.size ? found->second.size : 1);
    blocks.erase(found);
    return SUCCESS;
}
API int cudaHostAlloc(void** p, size_t size, unsigned) {
    LOCKED;
    if (int code = check_prohibited("cudaHostAlloc")) return code;
    *p = aligned_alloc(4096, (size + 4095) / 4096 * 4096);
    pinned[(uintptr_t)*p] = {size, device_now};
    return SUCCESS;
}
API int cudaFreeHost(void* p) {
    LOCKED;
    pinned.erase((uintptr_t)p);
    free(p);
    return SUCCESS;
}
API int cudaMemGetInfo(size_t* free_bytes, size_t* total) {
    *total = memory_of_device(), *free_bytes = *total - used[device_now];
    return SUCCESS;
}
struct PointerAttributes {
    int type, device;
    void *on_device, *on_host;
};
API int cudaPointerGetAttributes(PointerAttributes* found, const void* p) {
    int device = device_now;
    found->type = on_device(p, 0, &device) ? 2 : in_pinned(p, 0) ? 1 : 0;
    found->device = device, found->on_device = (void*)p, found->on_host = nullptr;
    return SUCCESS;
}

static int copy(void* to, const void* from, size_t size, Stream* stream) {
    for (const void* p : {(const void*)to, from})  // rule: memory of the device or of the host
        if (stream->capture && !on_device(p, size) && !in_pinned(p, size)) {
            stream->capture->invalid = true;
            return refuse(CAPTURE_UNSUPPORTED, "a copy of pageable host memory is captured");
        }
    return submit(stream, [=] { memmove(to, from, size); });
}
API int cudaMemcpyAsync(void* to, const void* from, size_t size, int, void* stream) {
    return copy(to, from, size, stream_of(stream));
}
API int cudaMemcpy(void* to, const void* from, size_t size, int) {
    // rule: the default stream would wait for the captured one
    if (capturing_strictly) return refuse(CAPTURE_IMPLICIT, "cudaMemcpy during a capture");
    return copy(to, from, size, stream_of(nullptr));
}
API int cudaMemcpyPeer(void* to, int, const void* from, int, size_t size) {
    return cudaMemcpy(to, from, size, 4);
}
API int cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t size, void* stream) {
    return copy(to, from, size, stream_of(stream));
}
API int cudaMemset(void* p, int value, size_t size) { return memset(p, value, size), SUCCESS; }
API int cudaMemsetAsync(void* p, int value, size_t size, void* stream) {
    return submit(stream_of(stream), [=] { memset(p, value, size); });
}

// ---------------------------------------------------------------- streams and capture

API int cudaStreamCreateWithPriority(void** stream, unsigned flags, int) {
    LOCKED;
    Stream* made = new Stream;
    made->device = device_now, made->flags = flags;
    streams[made] = true;
    *stream = made;
    return SUCCESS;
}
API int cudaStreamCreateWithFlags(void** stream, unsigned flags) {
    return cudaStreamCreateWithPriority(stream, flags, 0);
}
API int cudaStreamCreate(void** stream) { return cudaStreamCreateWithPriority(stream, 0, 0); }
API int cudaStreamDestroy(void* stream) {
    LOCKED;
    streams.erase((Stream*)stream);
    delete (Stream*)stream;
    return SUCCESS;
}
API int cudaStreamGetFlags(void* stream, unsigned* flags) {
    return *flags = stream_of(stream)->flags, SUCCESS;
}
static int refuse_captured(void* stream, const char* what) {
    Stream* s = stream_of(stream);
    if (s->capture) {  // rule: nobody can wait for work that is only being recorded
        s->capture->invalid = true;
        return refuse(CAPTURE_UNSUPPORTED, "%s of a stream that is being captured", what);
    }
    if (s->legacy && capturing_strictly)
        return refuse(CAPTURE_IMPLICIT, "%s of the default stream during a capture", what);
    return SUCCESS;
}
API int cudaStreamSynchronize(void* s) { return refuse_captured(s, "cudaStreamSynchronize"); }
API int cudaStreamQuery(void* s) { return refuse_captured(s, "cudaStreamQuery"); }
API int cudaLaunchHostFunc(void* stream, void (*function)(void*), void* data) {
    return submit(stream_of(stream), [=] { function(data); });
}
API int cudaStreamIsCapturing(void* stream, int* status) {
    Stream* s = stream_of(stream);
    return *status = !s->capture ? 0 : s->capture->invalid ? 2 : 1, SUCCESS;
}
API int cudaStreamBeginCapture(void* stream, int mode) {
    LOCKED;
    Stream* s = stream_of(stream);
    if (s->legacy) return refuse(CAPTURE_UNSUPPORTED, "the default stream cannot be captured");
    if (s->capture) return refuse(INVALID_VALUE, "the stream is being captured already");
    s->capture = std::make_shared<Capture>();
    s->capture->streams = {s}, s->capture->mode = mode;
    s->clock.clear();
    ++capturing;
    if (mode != MODE_RELAXED) ++capturing_strictly;
    return SUCCESS;
}
API int cudaStreamEndCapture(void* stream, void** graph) {
    LOCKED;
    Stream* s = stream_of(stream);
    *graph = nullptr;
    const std::shared_ptr<Capture> ended = s->capture;
    if (!ended || ended->streams[0] != s)
        return refuse(CAPTURE_UNMATCHED, "no capture was begun on the stream");
    bool joined = true;
    for (Stream* one : ended->streams) {
        joined = joined && one->clock[one] <= s->clock[one];
        one->capture.reset();
    }
    ended->open = false;
    --capturing;
    if (ended->mode != MODE_RELAXED) --capturing_strictly;
    if (ended->invalid) return refuse(CAPTURE_INVALIDATED, "the capture had become invalid");
    // rule: the first stream waits for the work of all that joined
    if (!joined) return refuse(CAPTURE_UNJOINED, "the first stream does not wait for all others");
    Graph* made = new Graph;
    made->work.swap(ended->work);
    *graph = made;
    return SUCCESS;
}

// ---------------------------------------------------------------- graphs

API int cudaGraphInstantiate(void** executable, void* graph, unsigned long long) {
    return *executable = new Graph(*(Graph*)graph), SUCCESS;
}
API int cudaGraphLaunch(void* executable, void* stream) {
    LOCKED;
    if (stream_of(stream)->capture)
        return refuse(CAPTURE_UNSUPPORTED, "a graph is launched into a captured stream");
    ++graph_launches;
    for (auto& work : ((Graph*)executable)->work) work();
    return SUCCESS;
}
API int cudaGraphUpload(void*, void*) { return SUCCESS; }
API int cudaGraphDestroy(void* graph) { return delete (Graph*)graph, SUCCESS; }
API int cudaGraphExecDestroy(void* executable) { return delete (Graph*)executable, SUCCESS; }

// ---------------------------------------------------------------- events

API int cudaEventCreateWithFlags(void** event, unsigned) {
    Event* made = new Event;
    made->device = device_now;
    return *event = made, SUCCESS;
}
API int cudaEventCreate(void** event) { return cudaEventCreateWithFlags(event, 0); }
API int cudaEventDestroy(void* event) { return delete (Event*)event, SUCCESS; }
API int cudaEventRecord(void* event, void* stream) {
    Event* e = (Event*)event;
    Stream* s = stream_of(stream);
    if (e->device != s->device)  // rule: an event belongs to a device
        return refuse(INVALID_HANDLE, "an event of device %d on a stream of %d", e->device, s->device);
    e->capture = s->capture, e->clock = s->clock;
    return SUCCESS;
}
API int cudaStreamWaitEvent(void* stream, void* event, unsigned) {
    LOCKED;
    Stream* s = stream_of(stream);
    Event* e = (Event*)event;
    if (!s->capture && !e->capture) return SUCCESS;
    // rule: a captured stream waits for events of its own capture only; others join that capture
    if (!s->capture && e->capture->open && !s->legacy) {
        s->capture = e->capture;
        s->capture->streams.push_back(s);
        s->clock.clear();
    }
    if (!s->capture || s->capture != e->capture) {
        if (s->capture) s->capture->invalid = true;
        return refuse(CAPTURE_ISOLATION, "a wait for an event across the border of a capture");
    }
    for (auto& one : e->clock)
        if (s->clock[one.first] < one.second) s->clock[one.first] = one.second;
    return SUCCESS;
}
static int event_state(void* event, const char* what) {
    if (((Event*)event)->capture)
        return refuse(CAPTURED_EVENT, "%s of an event that was recorded in a capture", what);
    return SUCCESS;
}
API int cudaEventQuery(void* event) { return event_state(event, "cudaEventQuery"); }
API int cudaEventSynchronize(void* event) { return event_state(event, "cudaEventSynchronize"); }
API int cudaEventElapsedTime(float* milliseconds, void*, void*) { return *milliseconds = 1, SUCCESS; }
