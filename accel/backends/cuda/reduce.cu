// Sums over the partial results of a pass, in a fixed order, and the penalty's part of the gradient.
//
// Macros: REAL, K; PEAKS 1: the columns from d on are largest magnitudes, not sums

// partial_value (values), partial (teams, size). A block sums 32 columns in 32 parts of the teams each.
// The gradient is (d, K) by rows and, where there are intercepts, (K): `size` is (d + 1) K either way.
extern "C" __global__ void __launch_bounds__(1024) reduce_teams(
    const double* __restrict__ partial_value, const REAL* __restrict__ partial, int values, int teams, int size,
    int d, int has_bias, const REAL* __restrict__ params, const REAL* __restrict__ factor,
    const REAL* __restrict__ ridge, double* __restrict__ value, REAL* __restrict__ gradient) {
    extern __shared__ __align__(16) unsigned char shared[];
    double* sums = (double*)shared;  // 32 x 33
    const int x = threadIdx.x % 32, part = threadIdx.x / 32, column = blockIdx.x * 32 + x;
    const bool is_peak = PEAKS && column >= d;
    double total = 0.0;
    if (column < size)
        for (int team = part; team < teams; team += 32) {
            const double next = (double)partial[(long long)team * size + column];
            total = is_peak ? fmax(total, next) : total + next;
        }
    sums[part * 33 + x] = total;
    __syncthreads();
    // transposed: warp `part` adds up the parts of column `part` of this block
    const int j = blockIdx.x * 32 + part;
    total = sums[x * 33 + part];
    for (int offset = 16; offset > 0; offset /= 2) {
        const double other = __shfl_xor_sync(0xFFFFFFFFu, total, offset);
        total = PEAKS && j >= d ? fmax(total, other) : total + other;
    }
    const int length = PEAKS ? size : (d + has_bias) * K;
    if (x == 0 && j < length) {
        REAL sum = (REAL)total;
        if (factor != nullptr && j < d * K) sum *= factor[j / K];
        if (ridge != nullptr) sum += ridge[j] * params[j];
        gradient[j] = sum;
    }
    if (value != nullptr && blockIdx.x == 0 && part == 0) {
        double all = 0.0;
        for (int i = x; i < values; i += 32) all += partial_value[i];
        for (int offset = 16; offset > 0; offset /= 2) all += __shfl_xor_sync(0xFFFFFFFFu, all, offset);
        if (x == 0) value[0] = all;
    }
}
