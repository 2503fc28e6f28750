// Runs the threads of a block: as fibers if the kernel has barriers, which cuda.h explains.
#include "cuda.h"
#include "tensor_map.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <vector>

dim3_t threadIdx, blockIdx, blockDim, gridDim;

float halves[65536];
static const bool filled = [] {
    for (unsigned bits = 0; bits < 65536; ++bits) {
        const unsigned short half = (unsigned short)bits;
        _Float16 h;
        memcpy(&h, &half, 2);
        halves[bits] = (float)h;
    }
    return true;
}();

namespace fibers {
enum Failure {
    FINE = 0,
    RETURNED_EARLY = 1,
    WARP_DIVERGED = 2,
    DIFFERENT_BARRIERS = 3,
    NEVER_ENDS = 4,
    COPIES_LEFT = 5,
    NO_BARRIER = 6,
    TOO_MANY_ARRIVALS = 7,
    NO_BOX = 8
};
enum { STACK = 256 * 1024 };

// Where a fiber or the scheduler left off. The compiler's own setjmp is several times as fast as the
// library's, but wants the jump in a function of its own.
typedef void* Place[5];
[[noreturn]] static OPAQUE void jump(Place& to) { __builtin_longjmp(to, 1); }
#define SWITCH(from, to) \
    if (!__builtin_setjmp(from)) jump(to)

struct Fiber {
    Place at;
    ucontext_t start;
    bool started;
    State state;
    int line;  // of the barrier it waits at
    const void* phase_of;  // the mbarrier it waits for, and the parity of the phase
    unsigned parity;
};
static std::vector<Fiber> all;
static Place scheduler;
static std::vector<dim3_t> indices;  // threadIdx of each thread of a block
static std::vector<unsigned> blocks_order;
static Thread body;
static void** body_data;
int current;
uint64_t exchange[1024];
char published_by[1024][PUBLISHED];

static void run_body() {
    for (;;) {
        body(body_data);
        all[current].state = DONE;
        SWITCH(all[current].at, scheduler);
    }
}

OPAQUE void give_way(State state, int line) {
    all[current].state = state;
    all[current].line = line;
    SWITCH(all[current].at, scheduler);
}

static void make(unsigned n) {
    if (all.size() >= n) return;
    // contexts hold addresses of themselves, so they are made anew when the vector grows
    all.assign(n, Fiber());
    static std::vector<void*> stacks;
    while (stacks.size() < n)
        stacks.push_back(mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    for (unsigned i = 0; i < n; ++i) {
        getcontext(&all[i].start);
        all[i].start.uc_stack.ss_sp = stacks[i];
        all[i].start.uc_stack.ss_size = STACK;
        all[i].start.uc_link = nullptr;
        makecontext(&all[i].start, run_body, 0);
    }
}

static uint64_t random_state;
static inline unsigned draw(unsigned below) {
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    return (unsigned)((random_state >> 32) * below >> 32);
}
template <class Items>
static void shuffle(Items& order, uint64_t seed) {
    if (seed == 1) std::reverse(order.begin(), order.end());
    if (seed > 1 && !order.empty())
        for (unsigned i = (unsigned)order.size() - 1; i > 0; --i) std::swap(order[i], order[draw(i + 1)]);
}

struct Copy {
    void* to;
    const void* from;  // null for zeros
    unsigned bytes;
};
static std::vector<std::vector<Copy>> copies[1024];  // groups, the last one open
void queue_copy(void* to, const void* from, unsigned bytes) {
    // the hardware faults on an address that is not a multiple of what it copies
    if ((uintptr_t)to % bytes || (uintptr_t)from % bytes) {
        fprintf(stderr, "cp.async: misaligned\n");
        abort();
    }
    memset(to, 0xff, bytes);
    auto& groups = copies[current];
    if (groups.empty()) groups.emplace_back();
    groups.back().push_back({to, from, bytes});
}
void close_copies() {
    if (copies[current].empty()) copies[current].emplace_back();
    copies[current].emplace_back();
}
void finish_copies(int left) {
    auto& groups = copies[current];
    while ((int)groups.size() > left + 1) {
        for (const Copy& copy : groups.front())
            if (copy.from) memcpy(copy.to, copy.from, copy.bytes);
            else memset(copy.to, 0, copy.bytes);
        groups.erase(groups.begin());
    }
}

// ---------------------------------------------------------------- mbarrier and TMA

static Failure failure;  // of the block that runs, the first
static void fail(Failure found) {
    if (!failure) failure = found;
}

struct Phases {
    uint8_t mark, parity;  // of the phase that has not ended
    uint8_t arrivals, missing;
    int32_t bytes;
};
enum { PHASES_MARK = 0x5a };
static Phases& phases_at(void* barrier) {
    Phases& found = *(Phases*)barrier;
    if (found.mark != PHASES_MARK || (uintptr_t)barrier % 8) fail(NO_BARRIER);
    return found;
}
static void end_if_complete(Phases& phases) {
    if (phases.missing || phases.bytes) return;
    phases.parity ^= 1;
    phases.missing = phases.arrivals;
}
void start_barrier(void* barrier, unsigned arrivals) {
    *(Phases*)barrier = {PHASES_MARK, 0, (uint8_t)arrivals, (uint8_t)arrivals, 0};
}
void arrive(void* barrier, int bytes) {
    Phases& phases = phases_at(barrier);
    if (!phases.missing) fail(TOO_MANY_ARRIVALS);
    phases.bytes += bytes;
    --phases.missing;
    end_if_complete(phases);
}
static bool ended(const void* barrier, unsigned parity) {
    return phases_at((void*)barrier).parity != parity;
}
void wait(void* barrier, unsigned parity) {
    while (!ended(barrier, parity) && !failure) {
        all[current].phase_of = barrier;
        all[current].parity = parity;
        give_way(AT_PHASE, 0);
    }
}

struct Box {
    BoxesOf array;
    char* to;
    unsigned shared;
    int at[5];
    void* barrier;

    size_t bytes() const {
        size_t total = ITEM;
        for (int i = 0; i < array.rank; ++i) total *= array.box[i];
        return total;
    }
};
static std::vector<Box> boxes;  // on their way
void queue_box(void* to, unsigned shared, const void* tensor_map, const int* at, int rank, void* barrier) {
    Box box = {{}, (char*)to, shared, {}, barrier};
    memcpy(&box.array, tensor_map, sizeof box.array);
    memcpy(box.at, at, rank * sizeof *at);
    const bool map = box.array.mark == BOXES_MARK && (uintptr_t)tensor_map % 64 == 0;
    if (!map || box.array.rank != rank || shared % 128) fail(NO_BOX);
    phases_at(barrier);
    if (failure) return;
    memset(to, 0xff, box.bytes());
    boxes.push_back(box);
}
// Lets a box arrive: 16 bytes of its rows swizzled by the bits of their address above the lowest 7.
static void deliver(size_t which) {
    const Box box = boxes[which];
    boxes.erase(boxes.begin() + (long)which);
    const BoxesOf& array = box.array;
    const size_t bytes = box.bytes();
    const unsigned mask = array.swizzle ? (1u << (array.swizzle - 4)) - 1 : 0;
    for (size_t done = 0; done < bytes; done += ITEM) {
        const char* from = array.base;
        size_t rest = done / ITEM;
        bool there = true;
        for (int i = 0; i < array.rank; ++i) {
            const int64_t place = box.at[i] + (int64_t)(rest % array.box[i]);
            rest /= array.box[i];
            there = there && place >= 0 && place < (int64_t)array.sizes[i];
            from += place * (int64_t)array.steps[i];
        }
        const unsigned plain = box.shared + (unsigned)done, at = plain ^ (plain >> 7 & mask) << 4;
        if (there) memcpy(box.to + (int)(at - box.shared), from, ITEM);
        else memset(box.to + (int)(at - box.shared), 0, ITEM);
    }
    Phases& phases = phases_at(box.barrier);
    phases.bytes -= (int)bytes;
    end_if_complete(phases);
}

static OPAQUE void start(Fiber& fiber) {
    fiber.started = true;
    if (!__builtin_setjmp(scheduler)) setcontext(&fiber.start);
}
static OPAQUE void go_on(Fiber& fiber) { SWITCH(scheduler, fiber.at); }

static int run_block(unsigned n, uint64_t seed) {
    make(n);
    std::vector<unsigned> order(n), waiting_warps, lanes;
    unsigned lead = n;
    bool woken = false;  // whether threads of other warps than the lead can run
    boxes.clear();
    failure = FINE;
    for (unsigned i = 0; i < n; ++i) {
        order[i] = i;
        copies[i].clear();
        all[i].state = RUNNABLE;
    }
    for (;;) {
        const bool alone = waiting_warps.size() == 1 && !woken;  // only the lead's lanes can run
        if (alone) {
            lanes.clear();
            for (unsigned i = lead; i < std::min(n, lead + 32); ++i) lanes.push_back(i);
        }
        std::vector<unsigned>& turn = alone ? lanes : order;
        shuffle(turn, seed);
        for (unsigned k = 0; k < turn.size(); ++k) {
            Fiber& fiber = all[turn[k]];
            if (fiber.state != RUNNABLE) continue;
            current = (int)turn[k];
            threadIdx = indices[turn[k]];
            if (fiber.started) go_on(fiber);
            else start(fiber);
        }
        if (failure) return failure;
        // Boxes arrive as late as they can, as early (seed 1), or in between.
        while (!boxes.empty() && seed && (seed == 1 || draw(4) == 0)) deliver(draw((unsigned)boxes.size()));
        woken = false;
        for (unsigned i = 0; i < n; ++i)
            if (all[i].state == AT_PHASE && ended(all[i].phase_of, all[i].parity))
                all[i].state = RUNNABLE, woken = true;
        // Warps that wait for their own lanes go on: all together, or (seeds above 0) one warp as far
        // as it gets before the next, so that only a barrier of the block keeps it from running ahead.
        bool released = false;
        waiting_warps.clear();
        for (unsigned w = 0; w < n; w += 32) {
            const unsigned end = std::min(n, w + 32);
            unsigned waiting = 0, done = 0, late = 0;
            for (unsigned i = w; i < end; ++i) {
                waiting += all[i].state == AT_WARP_BARRIER;
                done += all[i].state == DONE;
                late += all[i].state == AT_PHASE || all[i].state == RUNNABLE;
            }
            if (!waiting || late) continue;
            if (waiting + done != end - w) return WARP_DIVERGED;
            waiting_warps.push_back(w);
        }
        if (seed && !waiting_warps.empty()) {
            if (std::find(waiting_warps.begin(), waiting_warps.end(), lead) == waiting_warps.end())
                lead = seed == 1 ? waiting_warps.back()
                                 : waiting_warps[draw((unsigned)waiting_warps.size())];
            waiting_warps.assign(1, lead);
        }
        if (waiting_warps.size() == 1) lead = waiting_warps[0];
        for (const unsigned w : waiting_warps) {
            for (unsigned i = w; i < std::min(n, w + 32); ++i)
                if (all[i].state == AT_WARP_BARRIER) all[i].state = RUNNABLE;
            released = true;
        }
        if (released || woken) continue;
        unsigned done = 0, late = 0;
        for (unsigned i = 0; i < n; ++i) {
            done += all[i].state == DONE;
            late += all[i].state == AT_PHASE;
        }
        if (done == n) return boxes.empty() ? FINE : COPIES_LEFT;
        if (late) {
            if (boxes.empty()) return NEVER_ENDS;
            deliver(seed ? draw((unsigned)boxes.size()) : 0);
            woken = true;  // perhaps
            continue;
        }
        if (done) return RETURNED_EARLY;
        for (unsigned i = 1; i < n; ++i)
            if (all[i].line != all[0].line) return DIFFERENT_BARRIERS;
        for (unsigned i = 0; i < n; ++i) all[i].state = RUNNABLE;
    }
}

static void prepare(const unsigned* grid, const unsigned* block, uint64_t seed) {
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    random_state = seed * 0x9E3779B97F4A7C15ull + 1;
    indices.resize(block[0] * block[1] * block[2]);
    for (unsigned i = 0; i < indices.size(); ++i)
        indices[i] = {i % block[0], i / block[0] % block[1], i / (block[0] * block[1])};
    blocks_order.resize(grid[0] * grid[1] * grid[2]);
    for (unsigned i = 0; i < blocks_order.size(); ++i) blocks_order[i] = i;
    shuffle(blocks_order, seed);
}

static void enter_block(unsigned b) {
    blockIdx = {b % gridDim.x, b / gridDim.x % gridDim.y, b / (gridDim.x * gridDim.y)};
}

int launch(const unsigned* grid, const unsigned* block, uint64_t seed, Thread thread, void** data) {
    prepare(grid, block, seed);
    body = thread;
    body_data = data;
    for (unsigned b : blocks_order) {
        enter_block(b);
        if (const int failure = run_block((unsigned)indices.size(), seed)) return failure;
    }
    return FINE;
}

int launch(const unsigned* grid, const unsigned* block, uint64_t seed, Threads threads, void** data) {
    prepare(grid, block, seed);
    std::vector<dim3_t> order = indices;
    for (unsigned k = 0; k < blocks_order.size(); ++k) {
        enter_block(blocks_order[k]);
        if (k % 8 == 0) shuffle(order, seed);  // for each block it would take as long as a kernel
        threads(order.data(), order.data() + order.size(), data);
    }
    return FINE;
}
}  // namespace fibers
