// Reads an array of 16-byte words once and does nothing else: what no pass can exceed.
//
// Macros: THREADS, threads of a block

extern "C" __global__ void __launch_bounds__(THREADS) reading(
    const uint4* __restrict__ words, long long n, unsigned int* __restrict__ never) {
    const long long stride = (long long)gridDim.x * THREADS;
    long long i = (long long)blockIdx.x * THREADS + threadIdx.x;
    unsigned int mixed = 0;
    for (; i + 3 * stride < n; i += 4 * stride) {
        const uint4 a = __ldcs(words + i), b = __ldcs(words + i + stride);
        const uint4 c = __ldcs(words + i + 2 * stride), d = __ldcs(words + i + 3 * stride);
        mixed ^= a.x ^ a.y ^ a.z ^ a.w ^ b.x ^ b.y ^ b.z ^ b.w;
        mixed ^= c.x ^ c.y ^ c.z ^ c.w ^ d.x ^ d.y ^ d.z ^ d.w;
    }
    for (; i < n; i += stride) {
        const uint4 a = __ldcs(words + i);
        mixed ^= a.x ^ a.y ^ a.z ^ a.w;
    }
    if (mixed == 0x5EED5EEDu) never[0] = mixed;  // or the compiler reads nothing
}
