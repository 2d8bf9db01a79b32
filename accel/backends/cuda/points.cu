// Between two products with the whole X: raw predictions become residuals, or curvatures, where they lie.
//
// Macros, beside those of numbers.cuh and losses.cuh:
//   WHAT     GRADIENT or CURVATURE, as in rows.cu
//   THREADS  threads of a block

#define GRADIENT 0
#define CURVATURE 1

// Z (n, outputs); Y (n, TARGETS_OF(outputs)); S (n); b (outputs) or null. params, ridge (n_params): what the
// penalty adds to the value; null where nothing. Written whole: partial_value (blocks), of GRADIENT.
extern "C" __global__ void __launch_bounds__(THREADS, 3) points(
    REAL* __restrict__ Z, const TARGET* __restrict__ Y, const REAL* __restrict__ S, const REAL* __restrict__ b,
    const REAL* __restrict__ params, const REAL* __restrict__ ridge, long long n, int outputs, int n_params,
    double* __restrict__ partial_value) {
    extern __shared__ __align__(16) unsigned char shared[];
    const int lane = threadIdx.x % POINT_LANES, side = 32 / POINT_LANES;
    const long long warp = ((long long)blockIdx.x * THREADS + threadIdx.x) / 32;
    const long long stride = (long long)gridDim.x * (THREADS / 32) * side;
    double value = 0.0;
    for (long long base = warp * side; base < n; base += stride) {  // the same for a whole warp
        const long long row = base + threadIdx.x % 32 / POINT_LANES;
        const bool alive = row < n;
#if LOSS == LOGISTIC || LOSS == LOGISTIC_QUADRATIC
        if (!alive) continue;
#endif
        REAL* z = Z + (alive ? row : n - 1) * outputs;
        const int wanted = alive ? outputs : 0;  // lanes beyond the last row only keep the others company
        if (b != nullptr)
            for (int k = lane; k < wanted; k += POINT_LANES) z[k] += b[k];
#if WHAT == CURVATURE
        point_curvature(z, wanted, lane);
#else
        const TARGET* y = Y + (alive ? row : n - 1) * TARGETS_OF(outputs);
        const REAL s = alive ? S[row] : (REAL)0;
        const Loss loss = point_loss(z, y, wanted, lane);
        if (alive && lane == 0) value += (double)(s * (log1p(loss.excess) + loss.rest));
        for (int k = lane; k < wanted; k += POINT_LANES) z[k] *= s;
#endif
    }
#if WHAT == GRADIENT
    if (ridge != nullptr)
        for (int j = blockIdx.x * THREADS + threadIdx.x; j < n_params; j += gridDim.x * THREADS)
            value += 0.5 * (double)ridge[j] * (double)params[j] * (double)params[j];
    double* values = (double*)shared;  // THREADS / 32
    value = warp_sum(value);
    if (threadIdx.x % 32 == 0) values[threadIdx.x / 32] = value;
    __syncthreads();
    if (threadIdx.x == 0) {
        double total = 0.0;
        for (int i = 0; i < THREADS / 32; ++i) total += values[i];
        partial_value[blockIdx.x] = total;
    }
#endif
}
