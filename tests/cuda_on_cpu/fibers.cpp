// Runs the threads of a block: as fibers if the kernel has barriers, which cuda.h explains.
#include "cuda.h"

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
enum Failure { FINE = 0, RETURNED_EARLY = 1, WARP_DIVERGED = 2, DIFFERENT_BARRIERS = 3 };
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

static OPAQUE void start(Fiber& fiber) {
    fiber.started = true;
    if (!__builtin_setjmp(scheduler)) setcontext(&fiber.start);
}
static OPAQUE void go_on(Fiber& fiber) { SWITCH(scheduler, fiber.at); }

static int run_block(unsigned n, uint64_t seed) {
    make(n);
    std::vector<unsigned> order(n), waiting_warps, lanes;
    unsigned lead = n;
    for (unsigned i = 0; i < n; ++i) {
        order[i] = i;
        copies[i].clear();
        all[i].state = RUNNABLE;
    }
    for (;;) {
        const bool alone = waiting_warps.size() == 1;  // only the lead's lanes can run
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
        // Warps that wait for their own lanes go on: all together, or (seeds above 0) one warp as far
        // as it gets before the next, so that only a barrier of the block keeps it from running ahead.
        bool released = false;
        waiting_warps.clear();
        for (unsigned w = 0; w < n; w += 32) {
            const unsigned end = std::min(n, w + 32);
            unsigned waiting = 0, done = 0;
            for (unsigned i = w; i < end; ++i) {
                waiting += all[i].state == AT_WARP_BARRIER;
                done += all[i].state == DONE;
            }
            if (!waiting) continue;
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
        if (released) continue;
        unsigned done = 0;
        for (unsigned i = 0; i < n; ++i) done += all[i].state == DONE;
        if (done == n) return FINE;
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
