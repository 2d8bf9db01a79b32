// Enough of CUDA to run linear_pass.cu on the host: one std::thread for each CUDA thread, a barrier
// for __syncthreads and one for each warp's shuffles; the blocks of a grid run one after the other.
#include <barrier>
#include <cmath>
#include <cstdio>
#include <memory>
#include <thread>
#include <vector>

using std::exp, std::fabs, std::log, std::log1p;

#define __global__
#define __device__
#define __shared__ static

struct Index { int x; };
static thread_local Index threadIdx;
static Index blockIdx, gridDim;
static unsigned char* shim_shared;
static std::unique_ptr<std::barrier<>> shim_block, shim_warps[THREADS / 32];

static void __syncthreads() { shim_block->arrive_and_wait(); }

template <typename T> static T __shfl_xor_sync(unsigned, T x, int lane) {
    static T slots[THREADS];
    auto& warp = *shim_warps[threadIdx.x / 32];
    slots[threadIdx.x] = x;
    warp.arrive_and_wait();
    T other = slots[threadIdx.x ^ lane];
    warp.arrive_and_wait();
    return other;
}

template <typename Kernel> static void shim_launch(int grid, int shared_bytes, Kernel kernel) {
    gridDim.x = grid;
    for (int block = 0; block < grid; ++block) {
        blockIdx.x = block;
        // Exactly the bytes asked for, so that AddressSanitizer sees one too many.
        std::vector<unsigned char> memory(shared_bytes);
        shim_shared = memory.data();
        shim_block = std::make_unique<std::barrier<>>(THREADS);
        for (auto& warp : shim_warps) warp = std::make_unique<std::barrier<>>(32);
        std::vector<std::thread> threads;
        for (int i = 0; i < THREADS; ++i)
            threads.emplace_back([&kernel, i] { threadIdx.x = i; kernel(); });
        for (auto& thread : threads) thread.join();
    }
}
