// A CUtensorMap of the stand-in: what cuTensorMapEncodeTiled was given, checked as the driver's manual says.
#pragma once
#include <stdint.h>
#include <string.h>

struct BoxesOf {
    uint64_t mark;
    const char* base;
    uint64_t sizes[5], steps[5];  // the innermost first; steps are bytes
    uint32_t box[5];
    uint8_t rank, swizzle;  // the swizzle repeats every 2^swizzle bytes of a row, if not 0
};
static const uint64_t BOXES_MARK = 0x626f786573206f66;
enum { MAP_BYTES = 128, ITEM = 2 };
static_assert(sizeof(BoxesOf) <= MAP_BYTES, "as large as the driver's");

extern "C" inline int cuTensorMapEncodeTiled(void* map, int type, uint32_t rank, void* base,
                                             const uint64_t* sizes, const uint64_t* steps,
                                             const uint32_t* box, const uint32_t* each, int interleave,
                                             int swizzle, int promotion, int fill) {
    const bool half = type == 6 || type == 9;  // CU_TENSOR_MAP_DATA_TYPE_FLOAT16, _BFLOAT16
    if (!half || !map || (uintptr_t)map % 64 || !base || (uintptr_t)base % 16) return 1;
    if (rank < 1 || rank > 5 || interleave || swizzle < 0 || swizzle > 3) return 1;
    if (promotion < 0 || promotion > 3 || fill) return 1;
    BoxesOf made = {BOXES_MARK, (const char*)base, {}, {ITEM}, {}, (uint8_t)rank, (uint8_t)(swizzle ? swizzle + 4 : 0)};
    for (uint32_t i = 0; i < rank; ++i) {
        if (!sizes[i] || sizes[i] > 1ull << 32 || !box[i] || box[i] > 256 || each[i] != 1) return 1;
        made.sizes[i] = sizes[i], made.box[i] = box[i];
        if (i + 1 == rank) break;
        if (steps[i] % 16 || steps[i] >= 1ull << 40) return 1;
        if (steps[i] < (i ? steps[i - 1] : ITEM) * sizes[i]) return 1;  // rows would overlap
        made.steps[i + 1] = steps[i];
    }
    const uint32_t inner = box[0] * ITEM;
    if (inner % 16 || (made.swizzle && inner > 1u << made.swizzle)) return 1;
    memset(map, 0, MAP_BYTES);
    memcpy(map, &made, sizeof made);
    return 0;
}
