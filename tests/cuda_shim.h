// Enough of CUDA to run the kernels on the host: a barrier for __syncthreads, one for each warp, one for each
// cluster. The blocks of a cluster run together, the clusters of a grid one after the other.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#ifdef SHIM_THREADS
#include <barrier>
#include <thread>
#include <vector>
#else
#include <ucontext.h>
#endif

#define HOST
#define __global__
#define __device__
#define __launch_bounds__(...)
#define __cluster_dims__(...)

using std::exp, std::fabs, std::fma, std::fmax, std::log, std::log1p, std::sqrt;

struct Index { int x; };
struct uint2 { unsigned int x, y; };
struct uint4 { unsigned int x, y, z, w; };
struct float2 { float x, y; };

// Few headers: the compiler spends more time on them than on a kernel.
template <typename T> struct List {
    T* items = nullptr;
    int size = 0, room = 0;
    ~List() { free(items); }
    void push(const T& item) {
        if (size == room) items = (T*)realloc((void*)items, (room = 2 * room + 8) * sizeof(T));
        items[size++] = item;
    }
};

// What a CUDA thread knows of itself, and how the CUDA threads of a cluster take turns: on threads of the
// system, which the sanitizers watch (SHIM_THREADS), or one after the other on fibers, ten times as fast.
struct ShimBlock;
struct ShimCluster;
struct ShimCopy { unsigned char* to; const unsigned char* from; int bytes; int group; };
struct ShimSelf {
    Index thread, block;
    ShimBlock* own_block;
    ShimCluster* own_cluster;
    int rank;
    List<ShimCopy> copies;           // asked for
    int groups = 0, done = 0;        // closed groups, and copies that were made
#ifndef SHIM_THREADS
    ucontext_t context;
    void* stack;
#endif
};
static thread_local ShimSelf* shim_self;
#define threadIdx (shim_self->thread)
#define blockIdx (shim_self->block)
#define shim_block (shim_self->own_block)
static Index gridDim, blockDim;

#ifdef SHIM_THREADS
typedef std::barrier<> ShimBarrier;
#else
static List<ShimSelf*> shim_ready, shim_next;  // who goes on in this round, and in the one after
static ucontext_t shim_scheduler;

struct ShimBarrier {
    int expected;
    List<ShimSelf*> waiting;
    explicit ShimBarrier(int n) : expected(n) {}
    void arrive_and_wait() {
        if (waiting.size + 1 < expected) {
            ShimSelf* self = shim_self;
            waiting.push(self);
            swapcontext(&self->context, &shim_scheduler);
            shim_self = self;
        } else {
            for (int i = 0; i < waiting.size; ++i) shim_next.push(waiting.items[i]);
            waiting.size = 0;
        }
    }
};
#endif

struct ShimBlock {
    ShimBarrier everyone;
    struct Slot { unsigned int word[8]; };
    List<ShimBarrier*> warps;
    Slot* slots;             // what the lanes of a warp show each other
    unsigned char* shared;   // exactly the bytes asked for, so that AddressSanitizer sees one too many

    ShimBlock(int threads, int bytes) : everyone(threads) {
        for (int i = 0; i < threads / 32; ++i) warps.push(new ShimBarrier(32));
        slots = (Slot*)malloc(threads * sizeof(Slot));
        shared = (unsigned char*)malloc(bytes);
        memset(shared, 0xFF, bytes);  // NaN: nobody may count on zeros
    }
    ~ShimBlock() {
        for (int i = 0; i < warps.size; ++i) delete warps.items[i];
        free(slots);
        free(shared);
    }
};
struct ShimCluster {
    ShimBarrier everyone;
    List<ShimBlock*> blocks;
    ShimCluster(int n, int threads, int bytes) : everyone(n * threads) {
        for (int i = 0; i < n; ++i) blocks.push(new ShimBlock(threads, bytes));
    }
    ~ShimCluster() {
        for (int i = 0; i < blocks.size; ++i) delete blocks.items[i];
    }
};

static inline void __syncthreads() { shim_block->everyone.arrive_and_wait(); }
static inline void __syncwarp() { shim_block->warps.items[threadIdx.x / 32]->arrive_and_wait(); }
static inline void cluster_sync() { shim_self->own_cluster->everyone.arrive_and_wait(); }
static inline unsigned int cluster_rank() { return (unsigned int)shim_self->rank; }

template <typename T> static T __shfl_sync(unsigned, T x, int lane) {
    static_assert(sizeof(T) <= 8);
    const int first = threadIdx.x / 32 * 32;
    memcpy(&shim_block->slots[threadIdx.x], &x, sizeof(T));
    __syncwarp();
    T other;
    memcpy(&other, &shim_block->slots[first + lane % 32], sizeof(T));
    __syncwarp();
    return other;
}
template <typename T> static T __shfl_xor_sync(unsigned mask, T x, int offset) {
    return __shfl_sync(mask, x, (threadIdx.x % 32) ^ offset);
}
template <typename T> static void store_there(T* here, unsigned int rank, T x) {
    const auto offset = (unsigned char*)here - shim_block->shared;
    memcpy(shim_self->own_cluster->blocks.items[rank]->shared + offset, &x, sizeof(T));
}

template <typename T> static T __ldg(const T* p) { return *p; }
template <typename T> static T __ldcs(const T* p) { return *p; }
static inline float __uint_as_float(unsigned int bits) { float x; memcpy(&x, &bits, 4); return x; }
static inline unsigned int __float_as_uint(float x) { unsigned int bits; memcpy(&bits, &x, 4); return bits; }
static inline unsigned int __byte_perm(unsigned int x, unsigned int y, unsigned int selector) {
    const uint64_t both = (uint64_t)y << 32 | x;
    unsigned int result = 0;
    for (int i = 0; i < 4; ++i) result |= (unsigned int)(both >> 8 * (selector >> 4 * i & 7) & 0xFF) << 8 * i;
    return result;
}

#define TF32 0
#define F16 1
#ifdef OPERAND  // what tiles.cu needs of compute capability 8.0, as the PTX manual defines it
// An asynchronous copy is done when it is waited for, not before: what is read too early shows.
static inline void copy_async(void* there, const void* from, bool is_wanted) {
    if ((uintptr_t)there % VB || (is_wanted && (uintptr_t)from % VB)) std::abort();  // as the hardware would
    shim_self->copies.push(
        {(unsigned char*)there, (const unsigned char*)from, is_wanted ? VB : 0, shim_self->groups});
}
static inline void end_of_group() { ++shim_self->groups; }
template <int N> static void wait_but_for() {
    ShimSelf& self = *shim_self;
    while (self.done < self.copies.size && self.copies.items[self.done].group < self.groups - N) {
        const ShimCopy copy = self.copies.items[self.done++];
        memset(copy.to, 0, VB);
        if (copy.bytes) memcpy(copy.to, copy.from, copy.bytes);
    }
}
static inline unsigned short float_to_half(float x) {
    const _Float16 h = (_Float16)x;
    unsigned short bits;
    memcpy(&bits, &h, 2);
    return bits;
}
static inline float shim_half(unsigned int bits) {
    const unsigned short low = (unsigned short)bits;
    _Float16 h;
    memcpy(&h, &low, 2);
    return (float)h;
}
static inline unsigned int add_halves(unsigned int x, unsigned int y) {
    return (unsigned int)float_to_half(shim_half(x >> 16) + shim_half(y >> 16)) << 16
         | float_to_half(shim_half(x & 0xFFFF) + shim_half(y & 0xFFFF));
}
// Towards zero at 24 digits, as the units do with the exact sum of a product.
static inline float shim_cut(double exact) {
    float near = (float)exact;
    if (std::fabs((double)near) > std::fabs(exact)) near = std::nextafterf(near, 0.0f);
    return near;
}
// D = A B + D for a warp. Rows of A are g and g + 8, columns of B are g; a register holds k = t, or with 16-bit
// operands k = 2 t and 2 t + 1; the second half of k comes in the registers after.
static void multiply(float* c, const unsigned int* a, const unsigned int* b) {
    const int lane = threadIdx.x % 32, first = threadIdx.x - lane, g = lane / 4, t = lane % 4;
    auto* slots = shim_block->slots + first;
    memcpy(slots[lane].word, a, 16);
    memcpy(slots[lane].word + 4, b, 8);
    __syncwarp();
    for (int q = 0; q < 4; ++q) {
        const int row = q / 2, column = 2 * t + q % 2;  // row 0 is g, row 1 is g + 8
        double sum = c[q];
        for (int half = 0; half < 2; ++half)
            for (int k = 0; k < 4; ++k) {
                const unsigned int left = slots[4 * g + k].word[2 * half + row];
                const unsigned int right = slots[4 * column + k].word[4 + half];
                if (OPERAND == TF32) {  // the last 13 bits are not looked at
                    sum += (double)__uint_as_float(left & 0xFFFFE000u) * __uint_as_float(right & 0xFFFFE000u);
                } else {
                    sum += (double)shim_half(left & 0xFFFF) * shim_half(right & 0xFFFF);
                    sum += (double)shim_half(left >> 16) * shim_half(right >> 16);
                }
            }
        c[q] = shim_cut(sum);
    }
    __syncwarp();
}
#endif

template <typename Kernel>
static void shim_launch(int grid, int threads, int cluster, int shared_bytes, Kernel kernel) {
    gridDim.x = grid;
    blockDim.x = threads;
    for (int first = 0; first < grid; first += cluster) {
        ShimCluster together(cluster, threads, shared_bytes);
        const int n = cluster * threads;
        ShimSelf* selves = new ShimSelf[n];
        for (int i = 0; i < n; ++i) {
            ShimSelf& self = selves[i];
            self.thread.x = i % threads;
            self.rank = i / threads;
            self.block.x = first + self.rank;
            self.own_cluster = &together;
            self.own_block = together.blocks.items[self.rank];
        }
#ifdef SHIM_THREADS
        std::vector<std::thread> running;
        for (int i = 0; i < n; ++i)
            running.emplace_back([&, i] {
                shim_self = selves + i;
                kernel();
            });
        for (auto& thread : running) thread.join();
#else
        static Kernel* present;
        static int left;
        present = &kernel;
        left = n;
        const int stack_bytes = 128 << 10;
        for (int i = 0; i < n; ++i) {
            ShimSelf& self = selves[i];
            getcontext(&self.context);
            self.context.uc_stack.ss_sp = self.stack = malloc(stack_bytes);
            self.context.uc_stack.ss_size = stack_bytes;
            self.context.uc_link = &shim_scheduler;
            makecontext(&self.context, +[] {
                (*present)();
                --left;
            }, 0);
            shim_next.push(&self);
        }
        // in either order, equally legal: what only one of them gets right is a race
        const bool backwards = getenv("SHIM_BACKWARDS") != nullptr;
        while (shim_next.size) {
            shim_ready.size = 0;
            for (int i = 0; i < shim_next.size; ++i) shim_ready.push(shim_next.items[i]);
            shim_next.size = 0;
            for (int i = 0; i < shim_ready.size; ++i) {
                shim_self = shim_ready.items[backwards ? shim_ready.size - 1 - i : i];
                swapcontext(&shim_scheduler, &shim_self->context);
            }
        }
        if (left) {
            fprintf(stderr, "%d threads wait for others that have ended\n", left);
            std::abort();
        }
        for (int i = 0; i < n; ++i) free(selves[i].stack);
#endif
        delete[] selves;
    }
}
