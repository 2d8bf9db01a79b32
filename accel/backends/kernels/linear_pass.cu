// One forward and backward pass of a linear model: value and gradient of the weighted loss over the
// rows of X, with X read from device memory once.
//
// Macros, set by the compiler's caller:
//   X_BITS    how an element of X lies in memory: double, float, unsigned char, signed char,
//             unsigned short (float16 and bfloat16)
//   DECODE    decode_number, decode_half or decode_bfloat
//   REAL      arithmetic: float or double
//   K         outputs, 1 to 16; K == 1 is the logistic loss with Y in {-1, +1}, else softmax with
//             Y the class index
//   LABEL     type of Y: signed char for K == 1, int else
//   THREADS   threads of a block, a multiple of 32
//
// Blocks stride over tiles of TILE rows. A tile is read into shared memory; each warp takes one of
// its rows to loss and residual; then every thread adds the tile's share to the columns it owns of
// the block's partial gradient, which is private to the block and stays in the L2 cache. `reduce`
// adds the partials in block order: no atomics, the same bits every time.

#define TILE (THREADS / 32)

__device__ inline REAL decode_number(X_BITS x) { return (REAL)x; }

__device__ inline float bits_as_float(unsigned int bits) {
    union { unsigned int bits; float number; } both;
    both.bits = bits;
    return both.number;
}

// Finite float16 to float32, exactly, subnormals included: move the fields, mend the exponent.
__device__ inline REAL decode_half(X_BITS h) {
    unsigned int bits = (unsigned int)h;
    float magnitude = bits_as_float((bits & 0x7FFFu) << 13) * 5.192296858534828e33f;  // 2^112
    return (REAL)((bits & 0x8000u) ? -magnitude : magnitude);
}

__device__ inline REAL decode_bfloat(X_BITS h) { return (REAL)bits_as_float((unsigned int)h << 16); }

__device__ inline REAL warp_sum(REAL x) {
    for (int lane = 16; lane > 0; lane /= 2) x += __shfl_xor_sync(0xFFFFFFFFu, x, lane);
    return x;
}

// Loss of one row; z becomes the residual. The formulas of accel/losses.py.
__device__ inline REAL loss_residual(REAL* z, LABEL y, REAL s) {
#if K == 1
    REAL sign = (REAL)y, margin = sign * z[0];
    REAL e = exp(-fabs(margin));
    z[0] = -s * sign * (margin > (REAL)0 ? e : (REAL)1) / ((REAL)1 + e);
    return s * (log1p(e) - (margin < (REAL)0 ? margin : (REAL)0));
#else
    REAL largest = z[0], others = (REAL)0, own = (REAL)0, at_own = (REAL)0;
    for (int k = 1; k < K; ++k) largest = z[k] > largest ? z[k] : largest;
    for (int k = 0; k < K; ++k) {
        const REAL shifted = z[k] - largest;
        z[k] = exp(shifted);
        if (k == (int)y) { own = shifted; at_own = z[k]; }
        else others += z[k];
    }
    const REAL share = s / (others + at_own);
    for (int k = 0; k < K; ++k) z[k] = share * (k == (int)y ? -others : z[k]);
    return s * (own < (REAL)0 ? log(others + at_own) - own : log1p(others));
#endif
}

// X (n, d), Y (n), S (n), W (d, K), B (K); partial_value (blocks), partial (blocks, (d + 1) K), both
// written whole. Dynamic shared memory: TILE * d * sizeof(X_BITS), or none with staged = 0, where a
// tile does not fit and its second reading comes from the caches.
extern "C" __global__ void linear_pass(
    const X_BITS* X, const LABEL* Y, const REAL* S, const REAL* W, const REAL* B,
    long long n, int d, int staged, double* partial_value, REAL* partial) {
    extern __shared__ __align__(16) unsigned char shared[];
    __shared__ REAL residual[TILE][K];
    __shared__ double value[TILE];
    X_BITS* tile = (X_BITS*)shared;
    REAL* own = partial + (long long)blockIdx.x * (d + 1) * K;
    int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
    REAL bias[K];
    for (int k = 0; k < K; ++k) bias[k] = (REAL)0;
    for (int j = thread; j < d * K; j += THREADS) own[j] = (REAL)0;
    if (lane == 0) value[warp] = 0.0;

    for (long long start = (long long)blockIdx.x * TILE; start < n; start += (long long)gridDim.x * TILE) {
        int rows = n - start < TILE ? (int)(n - start) : TILE;
        const X_BITS* source = X + start * d;
        if (staged) {
            for (int i = thread; i < rows * d; i += THREADS) tile[i] = source[i];
            __syncthreads();
            source = tile;
        }
        if (warp < rows) {
            const X_BITS* x = source + (long long)warp * d;
            REAL z[K];
            for (int k = 0; k < K; ++k) z[k] = (REAL)0;
            for (int j = lane; j < d; j += 32) {
                REAL element = DECODE(x[j]);
                for (int k = 0; k < K; ++k) z[k] += element * W[(long long)j * K + k];
            }
            for (int k = 0; k < K; ++k) z[k] = warp_sum(z[k]) + B[k];
            REAL loss = loss_residual(z, Y[start + warp], S[start + warp]);
            if (lane == 0) {
                value[warp] += (double)loss;
                for (int k = 0; k < K; ++k) residual[warp][k] = z[k];
            }
        }
        __syncthreads();
        for (int j = thread; j < d; j += THREADS) {
            REAL g[K];
            for (int k = 0; k < K; ++k) g[k] = own[j * K + k];
            for (int i = 0; i < rows; ++i) {
                REAL element = DECODE(source[(long long)i * d + j]);
                for (int k = 0; k < K; ++k) g[k] += residual[i][k] * element;
            }
            for (int k = 0; k < K; ++k) own[j * K + k] = g[k];
        }
        if (thread == 0)
            for (int i = 0; i < rows; ++i)
                for (int k = 0; k < K; ++k) bias[k] += residual[i][k];
        __syncthreads();
    }
    __syncthreads();  // for a block without a tile
    if (thread == 0) {
        double total = 0.0;
        for (int i = 0; i < TILE; ++i) total += value[i];
        partial_value[blockIdx.x] = total;
        for (int k = 0; k < K; ++k) own[d * K + k] = bias[k];
    }
}

// Sums over the blocks, in their order: value (1), gradient (size = (d + 1) K).
extern "C" __global__ void reduce(
    const double* partial_value, const REAL* partial, int blocks, int size,
    double* value, REAL* gradient) {
    int j = blockIdx.x * THREADS + threadIdx.x;
    if (j < size) {
        double total = 0.0;
        for (int block = 0; block < blocks; ++block) total += (double)partial[(long long)block * size + j];
        gradient[j] = (REAL)total;
    }
    if (j == 0) {
        double total = 0.0;
        for (int block = 0; block < blocks; ++block) total += partial_value[block];
        value[0] = total;
    }
}
