// The CUDA driver's modules and launches, and NVRTC: kernels are compiled by a function of the tests.
//
// "Machine code" is the path of a shared library with the stand-in's kernels (tests/cuda_on_cpu), which
// are run; or real machine code, of which launches are only checked and counted.
#include <dlfcn.h>

#include <fstream>
#include <sstream>

#include "../cuda_on_cpu/tensor_map.h"
#include "state.h"

static const char MARK[] = "\x7f"
                           "ELF null CUDA: ";
static const int MOST_SHARED = 232448;  // bytes of a block on compute capability 9.0

struct Module {
    int device;
    void* library;
    std::string code;
};
struct Function {
    Module* module;
    std::string name;
    int dynamic;
    int (*launch)(const unsigned*, const unsigned*, uint64_t, void**);
    const unsigned* sizes;
};

API int cuGetErrorName(int code, const char** text) {
    *text = code == INVALID_VALUE ? "CUDA_ERROR_INVALID_VALUE" : "CUDA_ERROR_OF_NULL_CUDA";
    return SUCCESS;
}
API int cuGetErrorString(int, const char** text) { return *text = "refused", SUCCESS; }
API int cuCtxGetCurrent(void** context) {
    return *context = (void*)(uintptr_t)(16 + current_device()), SUCCESS;
}
API int cuCtxSetCurrent(void*) { return SUCCESS; }
API int cuCtxGetDevice(int* device) { return *device = current_device(), SUCCESS; }
API int cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }

static int load(void** module, const std::string& code) {
    Module* made = new Module{current_device(), nullptr, code};
    if (code.compare(0, sizeof MARK - 1, MARK) == 0) {
        std::string path = code.substr(sizeof MARK - 1);
        path = path.substr(0, path.find('\n'));
        made->library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (!made->library) return refuse(INVALID_IMAGE, "%s", dlerror());
    } else if (code.compare(0, 4, "\x7f" "ELF"))
        return refuse(INVALID_IMAGE, "a module that is not machine code");
    *module = made;
    return SUCCESS;
}
// The size of real machine code, an ELF file: the end of the later of its two tables.
static size_t size_of(const char* start) {
    uint64_t table[2];
    uint16_t header[6];
    memcpy(table, start + 32, sizeof table), memcpy(header, start + 52, sizeof header);
    const size_t segments = table[0] + (size_t)header[1] * header[2];
    const size_t sections = table[1] + (size_t)header[3] * header[4];
    return segments > sections ? segments : sections;
}
API int cuModuleLoad(void** module, const char* path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) return refuse(FILE_NOT_FOUND, "no module %s", path);
    std::stringstream text;
    text << file.rdbuf();
    const std::string code = text.str();
    // rule: an image is complete, to the last byte of its headers
    const size_t end = code.compare(0, sizeof MARK - 1, MARK) ? size_of(code.data())
                                                              : code.rfind('\n') + 2;
    if (code.size() < end)
        return refuse(INVALID_IMAGE, "%s has %zu bytes of %zu", path, code.size(), end);
    return load(module, code);
}
API int cuModuleLoadData(void** module, const void* image) {
    const char* start = (const char*)image;
    if (!memcmp(start, MARK, sizeof MARK - 1)) return load(module, std::string(start));
    if (memcmp(start, "\x7f" "ELF", 4)) return refuse(INVALID_IMAGE, "not machine code");
    return load(module, std::string(start, size_of(start)));
}
API int cuModuleUnload(void* module) { return delete (Module*)module, SUCCESS; }
API int cuModuleGetFunction(void** function, void* module, const char* name) {
    Module* m = (Module*)module;
    Function* made = new Function{m, name, 49152, nullptr, nullptr};
    if (m->library) {
        made->launch = (decltype(made->launch))dlsym(m->library, (std::string("launch_") + name).c_str());
        made->sizes = (const unsigned*)dlsym(m->library, (std::string("sizes_") + name).c_str());
        if (!made->launch || !made->sizes) return refuse(NOT_FOUND, "no kernel %s", name);
    } else if (m->code.find(std::string(".text.") + name) == std::string::npos)
        return refuse(NOT_FOUND, "no kernel %s", name);
    *function = made;
    return SUCCESS;
}
enum { MAX_DYNAMIC = 8 };  // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
API int cuFuncSetAttribute(void* function, int attribute, int value) {
    if (attribute != MAX_DYNAMIC) return SUCCESS;
    if (value > MOST_SHARED) return refuse(INVALID_VALUE, "%d bytes of shared memory", value);
    return ((Function*)function)->dynamic = value, SUCCESS;
}
API int cuFuncGetAttribute(int* value, int attribute, void* function) {
    return *value = attribute == MAX_DYNAMIC ? ((Function*)function)->dynamic : 0, SUCCESS;
}

API int cuLaunchKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                       unsigned bz, unsigned shared, void* stream, void** given, void**) {
    LOCKED;
    Function* f = (Function*)function;
    Stream* s = stream_of(stream);
    const char* name = f->name.c_str();
    if (gx > 0x7fffffffu || gy > 65535 || gz > 65535 || !gx || !gy || !gz)
        return refuse(INVALID_VALUE, "%s: a grid of %u x %u x %u", name, gx, gy, gz);
    if ((uint64_t)bx * by * bz > 1024 || bz > 64 || !bx || !by || !bz)
        return refuse(INVALID_VALUE, "%s: blocks of %u x %u x %u", name, bx, by, bz);
    if ((int)shared > f->dynamic)
        return refuse(INVALID_VALUE, "%s: %u bytes of shared memory, %d allowed", name, shared, f->dynamic);
    if (s->device != f->module->device)
        return refuse(INVALID_HANDLE, "%s of device %d on a stream of device %d", name, f->module->device,
                      s->device);
    count_launch();
    if (!f->launch) return SUCCESS;
    // the arguments are copied when a kernel is launched, or recorded
    std::vector<std::string> arguments;
    for (int i = 0; f->sizes[i]; ++i) arguments.emplace_back((const char*)given[i], f->sizes[i]);
    return submit(s, [=]() mutable {
        std::vector<void*> pointers;
        for (auto& one : arguments) pointers.push_back(&one[0]);
        const unsigned grid[3] = {gx, gy, gz}, block[3] = {bx, by, bz};
        if (int failure = f->launch(grid, block, 0, pointers.data()))
            refuse(INVALID_VALUE, "%s: failed with %d (see _FAILURES in cuda_on_cpu)", name, failure);
    });
}

// an inline function is compiled only where it is used
void* tensor_maps = (void*)cuTensorMapEncodeTiled;

// ---------------------------------------------------------------- NVRTC

struct Program {
    std::string source, code, log;
};
// Compiles a source with options, one a line; writes the library's path, or what is wrong.
typedef int (*Compiler)(const char* source, const char* options, char* out, int size);
static Compiler compiler;
API void null_set_compiler(Compiler given) { compiler = given; }

API int nvrtcVersion(int* major, int* minor) { return *major = 13, *minor = 0, SUCCESS; }
API const char* nvrtcGetErrorString(int) { return "NVRTC_ERROR_COMPILATION"; }
API int nvrtcGetNumSupportedArchs(int* count) { return *count = 2, SUCCESS; }
API int nvrtcGetSupportedArchs(int* found) { return found[0] = 80, found[1] = 90, SUCCESS; }
API int nvrtcCreateProgram(void** program, const char* source, const char*, int, const char**,
                           const char**) {
    return *program = new Program{source, "", ""}, SUCCESS;
}
API int nvrtcDestroyProgram(void** program) { return delete (Program*)*program, SUCCESS; }
API int nvrtcCompileProgram(void* program, int count, const char** options) {
    Program* p = (Program*)program;
    std::string listed;
    for (int i = 0; i < count; ++i) listed += std::string(options[i]) + "\n";
    std::vector<char> out(1 << 14);
    if (!compiler) return p->log = "no compiler", 6;
    const int failure = compiler(p->source.c_str(), listed.c_str(), out.data(), (int)out.size());
    (failure ? p->log : p->code) = failure ? out.data() : MARK + std::string(out.data()) + "\n";
    return failure ? 6 : SUCCESS;
}
API int nvrtcGetCUBINSize(void* program, size_t* size) {
    return *size = ((Program*)program)->code.size() + 1, SUCCESS;
}
API int nvrtcGetCUBIN(void* program, char* out) {
    return strcpy(out, ((Program*)program)->code.c_str()), SUCCESS;
}
API int nvrtcGetPTXSize(void* program, size_t* size) { return nvrtcGetCUBINSize(program, size); }
API int nvrtcGetPTX(void* program, char* out) { return nvrtcGetCUBIN(program, out); }
API int nvrtcGetProgramLogSize(void* program, size_t* size) {
    return *size = ((Program*)program)->log.size() + 1, SUCCESS;
}
API int nvrtcGetProgramLog(void* program, char* out) {
    return strcpy(out, ((Program*)program)->log.c_str()), SUCCESS;
}
