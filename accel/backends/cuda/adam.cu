// One update of Adam in one pass over the parameters: twelve kernels otherwise.
//
// Macros, set by the compiler's caller:
//   REAL      arithmetic: float or double
//   THREADS   threads of a block
//
// The formula is that of accel.solvers.rules.Adam, which is its oracle in the tests.

extern "C" __global__ void adam(
    REAL* params, const REAL* gradient, REAL* m, REAL* v, double beta_1, double beta_2,
    double epsilon, double rate, long long n) {
    const REAL b1 = (REAL)beta_1, c1 = (REAL)(1 - beta_1);
    const REAL b2 = (REAL)beta_2, c2 = (REAL)(1 - beta_2);
    const long long stride = (long long)gridDim.x * THREADS;
    for (long long i = (long long)blockIdx.x * THREADS + threadIdx.x; i < n; i += stride) {
        const REAL g = gradient[i];
        const REAL first = b1 * m[i] + c1 * g;
        const REAL second = b2 * v[i] + c2 * (g * g);
        m[i] = first;
        v[i] = second;
        params[i] -= (REAL)rate * (first / (sqrt(second) + (REAL)epsilon));
    }
}
