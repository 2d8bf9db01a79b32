// A pass over the rows of X that reads X from device memory once, rows held in registers: value and
// gradient of a linear model, its curvatures, or a look at the columns.
//
// Macros, beside those of numbers.cuh and losses.cuh:
//   WHAT     GRADIENT   sums of the loss and of its gradient
//            CURVATURE  the curvature of every row, written out
//            MOMENTS    of every column the weighted sum and the largest magnitude
//            SPREAD     of every column the weighted sum of ((x - W) factor)^2
//   SHIFT    1: shift is taken from every row before anything else
//   STREAMS  1: X is larger than the L2 cache, and what was read is not wanted again
// and of the layout, chosen by rows_layout.py:
//   VB       bytes of a load
//   CH       loads of a lane for a row
//   L        lanes that share a row, a power of two, 32 where warps share it too
//   WPR      warps of a block that share a row
//   CLUSTER  blocks that share a row; above 1 needs compute capability 9.0
//   R        rows in flight of a lane, a power of two, at most L unless K == 1
//   WARPS    warps of a block, WPR where that is above 1
//   PER      blocks of a processor that registers must allow for
//
// A lane owns the same columns of every row it sees: their coefficients and their part of the
// gradient stay in its registers from the first row to the last. Where a row belongs to one warp and
// there is one output, the loop has no barrier and no shared memory. All sums have a fixed order.

#define GRADIENT 0
#define CURVATURE 1
#define MOMENTS 2
#define SPREAD 3

#define E ((int)(VB / sizeof(X_BITS)))
#define COLS (CH * E)
#define SLICES (WPR * CLUSTER)
#define THREADS (WARPS * 32)
#define STEP (32 / L)       // rows that lie side by side in a warp
#define V (R * K)           // raw predictions of a lane's rows
#define HAS_Z (WHAT == GRADIENT || WHAT == CURVATURE)
#define HAS_SUMS (WHAT != CURVATURE)
#define EXCHANGES (HAS_Z && (K > 1 || SLICES > 1))

#if CLUSTER > 1
#ifndef HOST
__device__ inline unsigned int cluster_rank() {
    unsigned int rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}
__device__ inline void cluster_sync() {
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}
// Write x to where `here` lies in the shared memory of another block of the cluster.
__device__ inline void store_there(REAL* here, unsigned int rank, REAL x) {
    const unsigned int place = (unsigned int)__cvta_generic_to_shared(here);
    unsigned int there;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(place), "r"(rank));
    if (sizeof(REAL) == 4)
        asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(there), "f"((float)x) : "memory");
    else
        asm volatile("st.shared::cluster.f64 [%0], %1;" ::"r"(there), "d"((double)x) : "memory");
}
#endif
#define CLUSTER_DIMS __cluster_dims__(CLUSTER, 1, 1)
#else
#define CLUSTER_DIMS
#endif

// `add_over_lanes` leaves a lane with `held` of n values, from place `first` on; several lanes have the
// same ones where there are more lanes than values. The lane that has value i, and where it has it:
__device__ constexpr int held(int n, int offset) {
    return offset > 0 && n > 1 ? held((n + 1) / 2, offset / 2) : n;
}
__device__ constexpr int sharing(int n, int offset) {  // lanes that are left with the same values
    return offset == 0 ? 1 : n > 1 ? sharing((n + 1) / 2, offset / 2) : 2 * offset;
}
__device__ constexpr int holder(int i, int n, int offset) {
    return offset == 0 || n <= 1 ? 0
         : i >= (n + 1) / 2      ? offset + holder(i - (n + 1) / 2, (n + 1) / 2, offset / 2)
                                 : holder(i, (n + 1) / 2, offset / 2);
}
__device__ constexpr int slot(int i, int n, int offset) {
    return offset == 0 || n <= 1 ? i : slot(i >= (n + 1) / 2 ? i - (n + 1) / 2 : i, (n + 1) / 2, offset / 2);
}

// Sums of N values over 2 OFFSET lanes: half of the values go to the other lane, half come from there. A lane
// is left with those from place `first` up to `end`.
template <int N, int OFFSET> __device__ inline void add_over_lanes(REAL* v, int& first, int& end, int lane) {
    if constexpr (OFFSET > 0 && N > 1) {
        constexpr int HALF_N = (N + 1) / 2;
        const bool upper = lane & OFFSET;
#pragma unroll
        for (int i = 0; i < HALF_N; ++i) {
            const REAL low = v[i], high = i + HALF_N < N ? v[i + HALF_N] : (REAL)0;
            v[i] = (upper ? high : low) + __shfl_xor_sync(ALL_LANES, upper ? low : high, OFFSET);
        }
        if (upper) first += HALF_N;
        else if (first + HALF_N < end) end = first + HALF_N;  // an odd half is padded: that is nobody's
        add_over_lanes<HALF_N, OFFSET / 2>(v, first, end, lane);
    } else if constexpr (OFFSET > 0) {
        v[0] += __shfl_xor_sync(ALL_LANES, v[0], OFFSET);
        add_over_lanes<1, OFFSET / 2>(v, first, end, lane);
    }
}

__device__ inline Pack<VB> load(const X_BITS* x) {
    typedef typename Word<VB>::T T;
    Pack<VB> pack;
#if STREAMS
    pack.whole = __ldcs((const T*)x);
#else
    pack.whole = __ldg((const T*)x);
#endif
    return pack;
}

// X (n, d), `pitch` elements from row to row; Y (n, TARGETS_OF(K)); S (n); params W (d, K) by rows and, where
// there are intercepts, b (K). Optional, null where not: factor (d) of the rows of W, shift (d) of the
// rows of X, ridge (like params).
// Written whole: partial_value (blocks), partial (clusters, (d + 1) K; for MOMENTS (clusters, 2 d), for
// SPREAD (clusters, d)), or curvatures (n, K).
extern "C" __global__ void CLUSTER_DIMS __launch_bounds__(THREADS, PER) linear_rows(
    const X_BITS* __restrict__ X, const TARGET* __restrict__ Y, const REAL* __restrict__ S,
    const REAL* __restrict__ params, const REAL* __restrict__ factor, const REAL* __restrict__ shift,
    const REAL* __restrict__ ridge, long long n, long long pitch, int d, int has_bias,
    double* __restrict__ partial_value, REAL* __restrict__ partial, REAL* __restrict__ curvatures) {
    extern __shared__ __align__(16) unsigned char shared[];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, l = lane % L, sub = lane / L;
#if CLUSTER > 1
    const int rank = (int)cluster_rank();
#else
    const int rank = 0;
#endif
    const int team = blockIdx.x / CLUSTER, teams = gridDim.x / CLUSTER;  // who share rows
    const int slice = WPR > 1 ? rank * WPR + warp : rank;

    REAL w[HAS_Z || WHAT == SPREAD ? COLS : 1][K], g[HAS_SUMS ? COLS : 1][K], largest[WHAT == MOMENTS ? COLS : 1];
    REAL m[SHIFT ? COLS : 1], u[WHAT == SPREAD ? COLS : 1], b[K];
#pragma unroll
    for (int c = 0; c < CH; ++c)
#pragma unroll
        for (int e = 0; e < E; ++e) {
            const int column = ((c * SLICES + slice) * L + l) * E + e, own = c * E + e;
            const bool is_there = column < d;
            if (SHIFT) m[own] = is_there ? shift[column] : (REAL)0;
            if (WHAT == SPREAD) u[own] = is_there ? factor[column] : (REAL)0;
            if (WHAT == MOMENTS) largest[own] = (REAL)0;
#pragma unroll
            for (int k = 0; k < K; ++k) {
                if (HAS_SUMS) g[own][k] = (REAL)0;
                if (HAS_Z || WHAT == SPREAD) {
                    REAL coefficient = is_there ? params[(long long)column * K + k] : (REAL)0;
                    if (HAS_Z && factor != nullptr && is_there) coefficient *= factor[column];
                    w[own][k] = coefficient;
                }
            }
        }
#pragma unroll
    for (int k = 0; k < K; ++k) b[k] = HAS_Z && has_bias ? params[(long long)d * K + k] : (REAL)0;

    double value = 0.0;
    REAL bias[K], kept_excess = (REAL)0, kept_weight = (REAL)0;  // of a row whose logarithm is still to be taken
    int turn = 0;
#pragma unroll
    for (int k = 0; k < K; ++k) bias[k] = (REAL)0;

#if EXCHANGES
    REAL* parts = (REAL*)shared;                                   // 2 x SLICES (or WARPS) x STEP V
    constexpr int PARTS = (SLICES > 1 ? SLICES : WARPS) * STEP * V;
    REAL* residuals = parts + 2 * PARTS + warp * STEP * V;         // of this warp
    int side = 0;
#if CLUSTER > 1
    cluster_sync();  // every block is there to be written to
#endif
#endif
    const long long first_row = WPR > 1 ? (long long)team * R : ((long long)team * WARPS + warp) * (R * STEP);
    const long long stride = (long long)teams * (WPR > 1 ? 1 : WARPS) * (R * STEP);
    for (long long base = first_row; base < n; base += stride) {
        Pack<VB> raw[R][CH];
#pragma unroll
        for (int i = 0; i < R; ++i) {
            const long long row = base + i * STEP + sub;
            const X_BITS* x = X + (row < n ? row : n - 1) * pitch + (slice * L + l) * E;  // beyond: weight zero
#pragma unroll
            for (int c = 0; c < CH; ++c) {
                // every load but the last lies within the row
                if (c < CH - 1 || ((c * SLICES + slice) * L + l) * E < d) raw[i][c] = load(x + c * SLICES * L * E);
                else raw[i][c].whole = typename Word<VB>::T{};
            }
        }
#if SHIFT
#define AT(i, q) subtract(raw[i][(q) / E].at((q) % E), m[q])
#else
#define AT(i, q) raw[i][(q) / E].at((q) % E)
#endif
        REAL r[R][K];  // what each of this lane's rows adds to the gradient, per unit of x
#if HAS_Z
        REAL z[V];
#pragma unroll
        for (int i = 0; i < R; ++i)
#pragma unroll
            for (int k = 0; k < K; ++k) {
                constexpr int CHAINS = K == 1 ? 4 : 1;  // K chains of additions are enough by themselves
                REAL t[CHAINS];
#pragma unroll
                for (int q = 0; q < CHAINS; ++q) t[q] = (REAL)0;
#pragma unroll
                for (int q = 0; q < COLS; ++q) t[q % CHAINS] = multiply_add(AT(i, q), w[q][k], t[q % CHAINS]);
                z[i * K + k] = CHAINS == 4 ? (t[0] + t[1 % CHAINS]) + (t[2 % CHAINS] + t[3 % CHAINS]) : t[0];
            }
        int first = 0, end = V;
        add_over_lanes<V, L / 2>(z, first, end, l);
        constexpr int HELD = held(V, L / 2), SHARED_BY = sharing(V, L / 2);
#if EXCHANGES
        REAL* mine = parts + side * PARTS + (SLICES > 1 ? slice : warp) * STEP * V + sub * V;
        if (l % SHARED_BY == 0) {
#pragma unroll
            for (int q = 0; q < HELD; ++q)
                if (first + q < end) {
#if CLUSTER > 1
#pragma unroll
                    for (int other = 0; other < CLUSTER; ++other) store_there(mine + first + q, other, z[q]);
#else
                    mine[first + q] = z[q];
#endif
                }
        }
#if CLUSTER > 1
        cluster_sync();
#elif WPR > 1
        __syncthreads();
#else
        __syncwarp();
#endif
        // Lane q does row q of the warp's R STEP rows; the lanes beyond do them again, for their turn.
        constexpr int ROWS = R * STEP;
        const int q = lane % ROWS;
        const long long row = base + (q % R) * STEP + q / R;
        const REAL* of_row = parts + side * PARTS + (SLICES > 1 ? 0 : warp) * STEP * V + q * K;
        REAL zq[K];
#pragma unroll
        for (int k = 0; k < K; ++k) {
            zq[k] = b[k];
#pragma unroll
            for (int p = 0; p < SLICES; ++p) zq[k] += of_row[p * STEP * V + k];
        }
        side ^= 1;
#if WHAT == CURVATURE
        point_curvature(zq, K, 0);
        if (slice == 0 && lane < ROWS && row < n) {
#pragma unroll
            for (int k = 0; k < K; ++k) curvatures[row * K + k] = zq[k];
        }
#else
        const bool alive = row < n;
        const long long last = alive ? row : n - 1;  // whose X stands for a row beyond: finite where it is
        TARGET y[TARGETS_OF(K)];
#pragma unroll
        for (int k = 0; k < TARGETS_OF(K); ++k) y[k] = Y[last * TARGETS_OF(K) + k];
        const REAL s = alive ? S[row] : (REAL)0;
        const Loss loss = point_loss(zq, y, K, 0);
        const bool is_my_turn = lane / ROWS == turn;
        if (is_my_turn) {
            value += (double)(s * loss.rest);
            kept_excess = loss.excess;
            kept_weight = s;
        }
        if (++turn == 32 / ROWS) {
            value += (double)(kept_weight * log1p(kept_excess));
            kept_weight = (REAL)0;
            turn = 0;
        }
        if (lane < ROWS) {
#pragma unroll
            for (int k = 0; k < K; ++k) {
                const REAL residual = s * zq[k];
                bias[k] += residual;
                residuals[q * K + k] = residual;
            }
        }
        __syncwarp();
#pragma unroll
        for (int i = 0; i < R; ++i)
#pragma unroll
            for (int k = 0; k < K; ++k) r[i][k] = residuals[(sub * R + i) * K + k];
#endif
#else  // one output, a row within a warp: its lanes have it all
        REAL residual[HELD];
        const bool is_my_turn = l % SHARED_BY == turn;
#pragma unroll
        for (int q = 0; q < HELD; ++q) {
            const long long row = base + (first + q) * STEP + sub;
            const bool alive = first + q < end && row < n;
            REAL zq[1] = {z[q] + b[0]};
#if WHAT == CURVATURE
            point_curvature(zq, K, 0);
            if (alive && l % SHARED_BY == 0) curvatures[row] = zq[0];
#else
            const TARGET y[1] = {Y[row < n ? row : n - 1]};  // of the row whose X stands there
            const REAL s = alive ? S[row] : (REAL)0;
            const Loss loss = point_loss(zq, y, K, 0);
            residual[q] = s * zq[0];
            bias[0] += l % SHARED_BY == 0 ? residual[q] : (REAL)0;
            if (is_my_turn) {
                value += (double)(s * loss.rest);
                if (SHARED_BY == 1) {
                    value += (double)(s * log1p(loss.excess));
                } else {
                    kept_excess = loss.excess;
                    kept_weight = s;
                }
            }
#endif
        }
#if WHAT == GRADIENT
        if (SHARED_BY > 1 && ++turn == SHARED_BY) {
            value += (double)(kept_weight * log1p(kept_excess));
            kept_weight = (REAL)0;
            turn = 0;
        }
#pragma unroll
        for (int i = 0; i < R; ++i) {
            const int from = holder(i, V, L / 2);
            r[i][0] = L == 1 ? residual[slot(i, V, 0)]
                             : __shfl_sync(ALL_LANES, residual[slot(i, V, L / 2)], sub * L + from);
        }
#endif
#endif
#else  // a look at the columns
#pragma unroll
        for (int i = 0; i < R; ++i) {
            const long long row = base + i * STEP + sub;
            r[i][0] = row < n ? S[row] : (REAL)0;
        }
#endif
#if HAS_SUMS
#pragma unroll
        for (int i = 0; i < R; ++i)
#pragma unroll
            for (int q = 0; q < COLS; ++q) {
                const REAL x = AT(i, q);
#if WHAT == SPREAD
                const REAL unit = (x - w[q][0]) * u[q];
                g[q][0] = multiply_add(r[i][0] * unit, unit, g[q][0]);
#else
#pragma unroll
                for (int k = 0; k < K; ++k) g[q][k] = multiply_add(r[i][k], x, g[q][k]);
#if WHAT == MOMENTS
                largest[q] = fmax(largest[q], fabs(x));
#endif
#endif
            }
#endif
#undef AT
    }
#if HAS_SUMS
    // Lanes of other rows, then warps, in a fixed order.
    constexpr int ARRAYS = WHAT == MOMENTS ? 2 : 1;
    const long long size = WHAT == GRADIENT ? (long long)(d + 1) * K : (long long)ARRAYS * d;
    REAL* own = partial + team * size;
#pragma unroll
    for (int offset = 16; offset >= L; offset /= 2)
#pragma unroll
        for (int q = 0; q < COLS; ++q) {
#pragma unroll
            for (int k = 0; k < K; ++k) g[q][k] += __shfl_xor_sync(ALL_LANES, g[q][k], offset);
            if (WHAT == MOMENTS) largest[q] = fmax(largest[q], __shfl_xor_sync(ALL_LANES, largest[q], offset));
        }
#if WHAT == GRADIENT
    value += (double)(kept_weight * log1p(kept_excess));
    value = warp_sum(value);
#pragma unroll
    for (int k = 0; k < K; ++k) bias[k] = warp_sum(bias[k]);
    // what the penalty adds to the value: each thread of the grid has its share of the parameters
    double shrink = 0.0;
    if (ridge != nullptr)
        for (int j = blockIdx.x * THREADS + threadIdx.x; j < (d + has_bias) * K; j += gridDim.x * THREADS)
            shrink += 0.5 * (double)ridge[j] * (double)params[j] * (double)params[j];
    shrink = warp_sum(shrink);
#endif
    __syncthreads();  // shared memory changes hands
    double* values = (double*)shared;                       // WARPS
    double* shrinks = values + WARPS;                       // WARPS
    REAL* biases = (REAL*)(shrinks + WARPS);                // WARPS x K
    REAL* sums = biases + WARPS * K;                        // COLS L x K, and as many for MOMENTS
#if WHAT == GRADIENT
    if (lane == 0) {
        values[warp] = value;
        shrinks[warp] = shrink;
#pragma unroll
        for (int k = 0; k < K; ++k) biases[warp * K + k] = bias[k];
    }
#endif
#if WPR > 1
#pragma unroll
    for (int q = 0; q < COLS; ++q) {
        const int column = ((q / E * SLICES + slice) * L + l) * E + q % E;
        if (column < d) {
#pragma unroll
            for (int k = 0; k < K; ++k) own[(long long)column * K + k] = g[q][k];
            if (WHAT == MOMENTS) own[d + column] = largest[q];
        }
    }
    __syncthreads();
#else
    for (int warps = 0; warps < WARPS; ++warps) {
        if (warp == warps && sub == 0) {
#pragma unroll
            for (int q = 0; q < COLS; ++q) {
                const int place = q * L + l;
#pragma unroll
                for (int k = 0; k < K; ++k)
                    sums[place * K + k] = (warps ? sums[place * K + k] : (REAL)0) + g[q][k];
                if (WHAT == MOMENTS) {
                    REAL* peak = sums + COLS * L + place;
                    *peak = fmax(warps ? *peak : (REAL)0, largest[q]);
                }
            }
        }
        __syncthreads();
    }
    for (int place = threadIdx.x; place < COLS * L; place += THREADS) {
        const int q = place / L, column = ((q / E * SLICES + slice) * L + place % L) * E + q % E;
        if (column < d) {
#pragma unroll
            for (int k = 0; k < K; ++k) own[(long long)column * K + k] = sums[place * K + k];
            if (WHAT == MOMENTS) own[d + column] = sums[COLS * L + place];
        }
    }
#endif
#if WHAT == GRADIENT
    // Warps that share rows have all seen the same losses: the first of them counts.
    if (threadIdx.x == 0) {
        double total = 0.0, penalty = 0.0;
        for (int i = 0; i < WARPS; ++i) {
            if (rank == 0 && (WPR == 1 || i == 0)) total += values[i];
            penalty += shrinks[i];
        }
        partial_value[blockIdx.x] = total + penalty;
    }
    if (rank == 0 && threadIdx.x < K) {
        REAL total = (REAL)0;
        for (int i = 0; i < (WPR == 1 ? WARPS : 1); ++i) total += biases[i * K + threadIdx.x];
        own[(long long)d * K + threadIdx.x] = total;
    }
#endif
#endif
}
