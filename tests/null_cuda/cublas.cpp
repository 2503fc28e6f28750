// cuBLAS's matrix product, with its rules on handles, streams, workspaces and types.
#include "state.h"

struct Handle {
    int device;
    void* stream = nullptr;
    bool workspace = false;
};
enum { NOT_INITIALIZED = 1, BAD_VALUE = 7, EXECUTION_FAILED = 13, NOT_SUPPORTED = 15 };
enum { FLOAT = 0, DOUBLE = 1, HALF = 2, BFLOAT = 14 };
enum { COMPUTE_32F = 68, COMPUTE_64F = 70, COMPUTE_32F_FAST_TF32 = 77 };

API int cublasCreate_v2(void** handle) { return *handle = new Handle{current_device()}, SUCCESS; }
API int cublasDestroy_v2(void* handle) { return delete (Handle*)handle, SUCCESS; }
API int cublasGetVersion_v2(void*, int* version) { return *version = 130000, SUCCESS; }
API int cublasSetStream_v2(void* handle, void* stream) {
    ((Handle*)handle)->stream = stream;
    ((Handle*)handle)->workspace = false;  // rule: a new stream resets the workspace
    return SUCCESS;
}
API int cublasGetStream_v2(void* handle, void** stream) {
    return *stream = ((Handle*)handle)->stream, SUCCESS;
}
API int cublasSetWorkspace_v2(void* handle, void* workspace, size_t size) {
    int device = -1;
    if ((uintptr_t)workspace % 256 || !on_device(workspace, size, &device))
        return refuse(BAD_VALUE, "a workspace that is not aligned, or not on the device");
    if (device != ((Handle*)handle)->device)
        return refuse(BAD_VALUE, "a workspace of another device");
    ((Handle*)handle)->workspace = true;
    return SUCCESS;
}
API int cublasSetMathMode(void*, int) { return SUCCESS; }
API int cublasGetMathMode(void*, int* mode) { return *mode = 0, SUCCESS; }
API int cublasSetPointerMode_v2(void*, int) { return SUCCESS; }
API int cublasGetPointerMode_v2(void*, int* mode) { return *mode = 0, SUCCESS; }

static float widen(uint16_t upper) {
    const uint32_t bits = (uint32_t)upper << 16;
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
static uint16_t narrow(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
static double read(const void* p, size_t i, int type) {
    switch (type) {
        case FLOAT: return ((const float*)p)[i];
        case DOUBLE: return ((const double*)p)[i];
        case HALF: return (float)((const _Float16*)p)[i];
    }
    return widen(((const uint16_t*)p)[i]);
}
static void write(void* p, size_t i, int type, double x) {
    switch (type) {
        case FLOAT: ((float*)p)[i] = (float)x; return;
        case DOUBLE: ((double*)p)[i] = x; return;
        case HALF: ((_Float16*)p)[i] = (_Float16)(float)x; return;
    }
    ((uint16_t*)p)[i] = narrow((float)x);
}
static size_t bytes(int type) { return type == DOUBLE ? 8 : type == FLOAT ? 4 : 2; }

API int cublasGemmEx(void* handle, int ta, int tb, int m, int n, int k, const void* alpha, const void* a,
                     int a_type, int lda, const void* b, int b_type, int ldb, const void* beta, void* c,
                     int c_type, int ldc, int compute, int) {
    Handle* h = (Handle*)handle;
    Stream* s = stream_of(h->stream);
    if (h->device != current_device() || s->device != h->device)
        return refuse(NOT_INITIALIZED, "a handle of device %d, a stream of %d, current is %d", h->device,
                      s->device, current_device());
    if (s->capture && !h->workspace)  // rule: it would allocate its own
        return refuse(EXECUTION_FAILED, "a product is captured without a workspace");
    const bool wide = compute == COMPUTE_64F;
    const bool half = a_type == HALF || a_type == BFLOAT;
    if (a_type != b_type || wide != (a_type == DOUBLE) || (half && compute != COMPUTE_32F) ||
        (c_type != a_type && !(half && c_type == FLOAT)))
        return refuse(NOT_SUPPORTED, "types %d x %d -> %d at %d", a_type, b_type, c_type, compute);
    if (m < 0 || n < 0 || k < 0 || lda < (ta ? k : m) || ldb < (tb ? n : k) || ldc < m || lda < 1 ||
        ldb < 1 || ldc < 1)
        return refuse(BAD_VALUE, "sizes %d %d %d, strides %d %d %d", m, n, k, lda, ldb, ldc);
    if (!m || !n) return SUCCESS;
    const auto reach = [](int rows, int columns, int step, int type) {
        return columns ? ((size_t)step * (columns - 1) + rows) * bytes(type) : 0;
    };
    if (!on_device(a, ta ? reach(k, m, lda, a_type) : reach(m, k, lda, a_type)) ||
        !on_device(b, tb ? reach(n, k, ldb, b_type) : reach(k, n, ldb, b_type)) ||
        !on_device(c, reach(m, n, ldc, c_type)))
        return refuse(BAD_VALUE, "a product of memory that is not on the device");
    if ((uintptr_t)a % bytes(a_type) || (uintptr_t)b % bytes(b_type) || (uintptr_t)c % bytes(c_type))
        return refuse(BAD_VALUE, "a matrix that is not aligned to its type");
    const double one = wide ? *(const double*)alpha : *(const float*)alpha;
    const double add = wide ? *(const double*)beta : *(const float*)beta;
    count_launch();
    return submit(s, [=] {
        std::vector<double> left((size_t)m * k), right(k), sums(m);
        for (int j = 0; j < k; ++j)
            for (int i = 0; i < m; ++i)
                left[(size_t)j * m + i] = read(a, ta ? (size_t)i * lda + j : (size_t)j * lda + i, a_type);
        for (int j = 0; j < n; ++j) {
            std::fill(sums.begin(), sums.end(), 0.0);
            for (int q = 0; q < k; ++q) {
                const double r = read(b, tb ? (size_t)q * ldb + j : (size_t)j * ldb + q, b_type);
                const double* column = &left[(size_t)q * m];
                for (int i = 0; i < m; ++i) sums[i] += r * column[i];
            }
            for (int i = 0; i < m; ++i) {
                const size_t at = (size_t)j * ldc + i;
                const double before = add != 0 ? add * read(c, at, c_type) : 0;
                write(c, at, c_type, one * sums[i] + before);
            }
        }
    });
}
