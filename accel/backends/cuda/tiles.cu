// A pass over the rows of X that reads X from device memory once, products on the tensor cores: value
// and gradient of a linear model, or its curvatures. For several outputs, and for bytes.
//
// Macros, beside those of numbers.cuh and losses.cuh, with REAL float:
//   WHAT     GRADIENT or CURVATURE, as in rows.cu
//   SHIFT    0: the tensor cores take X as it is stored
//   OPERAND  TF32 (m16n8k8) or F16 (m16n8k16): what X is exact in, but for float32
//   VB       bytes of a copy: 4, 8 or 16
//   MT       groups of 16 columns that a warp owns
//   WORKERS  warps that own columns
//   MR       tiles of 16 rows that are worked on at a time; ROWS = 16 MR
//   STAGES   of them in shared memory
//   PER      blocks of a processor that registers must allow for
//
// A worker copies its columns of ROWS rows into shared memory, multiplies them with its part of W,
// and once the losses are known multiplies them, transposed, with the residuals. Its part of W and of
// the gradient stay in registers. Warps of their own, a lane for a row, add up what the workers have of
// the raw predictions and turn it into residuals, while the workers begin with the next rows: one
// barrier for ROWS rows.
//
// float32 accuracy on units with 11 digits: W and the residuals are split in two terms of 11 digits each,
// x = high + low; float32 X as well, and high high + high low + low high is what is computed. Terms
// that are float16 are scaled by powers of two to lie within its range. The units cut sums off: the
// products of each 16 rows are added to the gradient outside of them.

#define GRADIENT 0
#define CURVATURE 1
#define TF32 0
#define F16 1

#define ROWS (16 * MR)
#define HELPERS ((ROWS + 31) / 32)
#define THREADS ((WORKERS + HELPERS) * 32)
#define SPLIT_X (OPERAND == TF32 && STORED == NUMBER)  // float32 X has more digits than one operand
// The 8 columns of a product hold: 8 outputs' high terms, their low terms; of the last outputs, where they are
// 4 or fewer, the high terms in columns 0 to 3 and the low terms in columns 4 to 7.
#define WHOLE (K / 8)
#define REST (K % 8)
#define IS_SHARED (REST > 0 && REST <= 4)
#define NT (2 * WHOLE + (REST == 0 ? 0 : IS_SHARED ? 1 : 2))
#define LOW_OF(h) ((h) + ((h) + 1 < NT))  // the product with the low terms of product h's outputs
// The gradient has 8 columns for whole outputs, high and low terms together, and 8 for the last ones.
#define GT (WHOLE + (REST > 0))
#define GT_OF(h) ((h) < 2 * WHOLE ? (h) / 2 : WHOLE)
#define CHAINS (NT > 2 ? 1 : 2)           // of additions, where products are few
// Low terms of W are stored times 2^11 where operands have a narrow range. Those of the residuals are not:
// they are added up with the high ones, and scaled by the largest of 32 rows.
#define LOW_SCALE (OPERAND == F16 ? 2048.0f : 1.0f)
#define LARGEST_EXPONENT 14  // of a scaled operand

#define SLICE_BYTES (MT * 16 * (int)sizeof(X_BITS))
#define UNITS (SLICE_BYTES / VB)
#define ACROSS (UNITS > 16 ? 32 : UNITS > 8 ? 16 : UNITS > 4 ? 8 : UNITS > 2 ? 4 : 2)  // lanes that copy a row
// Distance of rows in shared memory: 32 bytes beyond a multiple of 64, so that neither the reads of 8 rows
// nor those of every fourth row meet in a bank.
#define PITCH ((SLICE_BYTES + 31) / 64 * 64 + 32)
#define Z_PITCH (ROWS + 4)

#ifndef HOST
__device__ inline void copy_async(void* there, const void* from, bool is_wanted) {
    const unsigned int place = (unsigned int)__cvta_generic_to_shared(there);
    const int bytes = is_wanted ? VB : 0;  // the rest is filled with zeros
#if VB == 16
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(place), "l"(from), "r"(bytes) : "memory");
#else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(place), "l"(from), "n"(VB), "r"(bytes) : "memory");
#endif
}
__device__ inline void end_of_group() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> __device__ inline void wait_but_for() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }
#if OPERAND == TF32
__device__ inline void multiply(float* c, const unsigned int* a, const unsigned int* b) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#else
__device__ inline void multiply(float* c, const unsigned int* a, const unsigned int* b) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif
__device__ inline unsigned short float_to_half(float x) {
    unsigned short h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(x));
    return h;
}
__device__ inline unsigned int add_halves(unsigned int x, unsigned int y) {
    unsigned int sum;
    asm("add.f16x2 %0, %1, %2;" : "=r"(sum) : "r"(x), "r"(y));
    return sum;
}
#endif

// To the nearest of 11 digits; what is left of x has its sign either way.
__device__ inline float rounded_tf32(float x) { return __uint_as_float((__float_as_uint(x) + 0x1000u) & 0xFFFFE000u); }

struct Terms { float high, low; };
__device__ inline Terms split(float x) {
    const float high = OPERAND == TF32 ? rounded_tf32(x) : half_to_float(float_to_half(x));
    return {high, subtract(x, high)};
}
// The power of two that brings numbers of at most this size to 2^LARGEST_EXPONENT and less, and its inverse.
__device__ inline float up_scale(float largest) {
#if OPERAND == F16
    int exponent = (int)(__float_as_uint(largest) >> 23) - 126;  // largest < 2^exponent
    exponent = exponent < -110 ? -110 : exponent;
    return __uint_as_float((unsigned int)(LARGEST_EXPONENT - exponent + 127) << 23);
#else
    return 1.0f;
#endif
}

// Output and term of column c of product h: k < 0 where there is none.
__device__ inline int output_of(int h, int c, bool& is_low) {
    if (h < 2 * WHOLE) {
        is_low = h % 2;
        return h / 2 * 8 + c;
    }
    if (IS_SHARED) {
        is_low = c >= 4;
        return c % 4 < REST ? WHOLE * 8 + c % 4 : -1;
    }
    is_low = (h - 2 * WHOLE) % 2;
    return c < REST ? WHOLE * 8 + c : -1;
}
__device__ inline constexpr bool has_high(int h) { return h >= 2 * WHOLE && IS_SHARED ? true : h % 2 == 0; }

// Columns of a group of 16 whose numbers lane t of 4 has, i = 0 to 3.
__device__ inline int column_of(int t, int i) {
    return sizeof(X_BITS) == 4 ? i / 2 * 8 + 2 * t + i % 2 : 4 * t + i;
}

// What a lane has of 16 rows and 16 columns, as it is stored: for the product with W two rows, four numbers
// of each; for the product with the residuals four rows, two neighbouring numbers of each.
#define RAW_WORDS (sizeof(X_BITS) == 4 ? 8 : 4)
struct Raw { unsigned int word[RAW_WORDS]; };

__device__ inline Raw two_rows(const unsigned char* group, int g, int t) {
    Raw raw;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        const unsigned char* row = group + (g + 8 * i) * PITCH + 4 * (sizeof(X_BITS) == 4 ? 2 : sizeof(X_BITS)) * t;
#if OPERAND == F16 && STORED != HALF
        raw.word[i] = *(const unsigned int*)row;
#else
        const uint2 left = *(const uint2*)row;
        raw.word[i * RAW_WORDS / 2] = left.x;
        raw.word[i * RAW_WORDS / 2 + 1] = left.y;
        if (sizeof(X_BITS) == 4) {
            const uint2 right = *(const uint2*)(row + 32);
            raw.word[i * RAW_WORDS / 2 + 2 % RAW_WORDS] = right.x;
            raw.word[i * RAW_WORDS / 2 + 3] = right.y;
        }
#endif
    }
    return raw;
}
__device__ inline Raw four_rows(const unsigned char* group, int g, int t) {
    Raw raw;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const unsigned char* pair = group + (t + 4 * i) * PITCH + 2 * sizeof(X_BITS) * g;
        if (sizeof(X_BITS) == 4) {
            const uint2 both = *(const uint2*)pair;
            raw.word[2 * i % RAW_WORDS] = both.x;
            raw.word[(2 * i + 1) % RAW_WORDS] = both.y;
        } else if (sizeof(X_BITS) == 2) {
            raw.word[i] = *(const unsigned int*)pair;
        } else {
            raw.word[i] = *(const unsigned short*)pair;
        }
    }
    return raw;
}

#if OPERAND == TF32
__device__ inline float number(const Raw& raw, int i) {
#if STORED == BFLOAT
    return __uint_as_float(i % 2 ? raw.word[i / 2] & 0xFFFF0000u : raw.word[i / 2] << 16);
#else
    return __uint_as_float(raw.word[i]);
#endif
}
// Adds x W, or x' R, to the sums of NT products: x high and, of float32, x low, which meets high terms only.
template <bool IS_GRADIENT>
__device__ inline void multiply_all(float (*sums)[4], const float* x, const unsigned int (*b)[4], int step) {
    unsigned int high[4], low[4];
#pragma unroll
    for (int q = 0; q < 4; ++q) {
        const float most = SPLIT_X ? rounded_tf32(x[q]) : x[q];
        high[q] = __float_as_uint(most);
        low[q] = SPLIT_X ? __float_as_uint(subtract(x[q], most)) : 0u;
    }
#pragma unroll
    for (int h = 0; h < NT; ++h) {
        float* sum = sums[IS_GRADIENT ? GT_OF(h) : h];
        if (SPLIT_X && has_high(h)) multiply(sum, low, &b[h][2 * step]);
        multiply(sum, high, &b[h][2 * step]);
    }
}
__device__ inline void times_coefficients(float (*sums)[4], const Raw& raw, const unsigned int (*b)[4]) {
#pragma unroll
    for (int step = 0; step < 2; ++step) {
        const float x[4] = {number(raw, 2 * step), number(raw, 4 + 2 * step),
                            number(raw, 2 * step + 1), number(raw, 5 + 2 * step)};
        multiply_all<false>(sums, x, b, step);
    }
}
__device__ inline void times_residuals(float (*sums)[4], const Raw& raw, const unsigned int (*b)[4]) {
#pragma unroll
    for (int step = 0; step < 2; ++step) {
        const float x[4] = {number(raw, 4 * step), number(raw, 4 * step + 1),
                            number(raw, 4 * step + 2), number(raw, 4 * step + 3)};
        multiply_all<true>(sums, x, b, step);
    }
}
#else
// Two bytes as float16: 1024 + x by its place in the mantissa, then less 1024, exactly.
__device__ inline unsigned int halves(unsigned int bytes, unsigned int selector) {
    const unsigned int bits = STORED == SIGNED_BYTE ? bytes ^ 0x80808080u : bytes;
    const unsigned int least = STORED == SIGNED_BYTE ? 0xE480E480u : 0xE400E400u;  // -1152, -1024
    return add_halves(__byte_perm(bits, 0x64646464u, selector), least);
}
__device__ inline void times_coefficients(float (*sums)[4], const Raw& raw, const unsigned int (*b)[2]) {
#if STORED == HALF
    const unsigned int a[4] = {raw.word[0], raw.word[2], raw.word[1], raw.word[3]};
#else
    const unsigned int a[4] = {halves(raw.word[0], 0x4140), halves(raw.word[1], 0x4140),
                               halves(raw.word[0], 0x4342), halves(raw.word[1], 0x4342)};
#endif
#pragma unroll
    for (int h = 0; h < NT; ++h) multiply(sums[h], a, b[h]);
}
__device__ inline void times_residuals(float (*sums)[4], const Raw& raw, const unsigned int (*b)[2]) {
    unsigned int a[4];
#pragma unroll
    for (int q = 0; q < 2; ++q) {
        const unsigned int both = __byte_perm(raw.word[2 * q], raw.word[2 * q + 1], 0x5410);
#if STORED == HALF
        a[2 * q] = both;
        a[2 * q + 1] = __byte_perm(raw.word[2 * q], raw.word[2 * q + 1], 0x7632);
#else
        a[2 * q] = halves(both, 0x4240);
        a[2 * q + 1] = halves(both, 0x4341);
#endif
    }
#pragma unroll
    for (int h = 0; h < NT; ++h) multiply(sums[GT_OF(h)], a, b[h]);
}
#endif

// X (n, d), `pitch` elements from row to row, rows and pitch of whole copies; the rest as in rows.cu, K outputs.
// Written whole: partial_value (blocks), partial (blocks, (d + 1) K), or curvatures (n, K).
extern "C" __global__ void __launch_bounds__(THREADS, PER) linear_tiles(
    const X_BITS* __restrict__ X, const TARGET* __restrict__ Y, const float* __restrict__ S,
    const float* __restrict__ params, const float* __restrict__ factor, const float* __restrict__ shift,
    const float* __restrict__ ridge, long long n, long long pitch, int d, int has_bias,
    double* __restrict__ partial_value, float* __restrict__ partial, float* __restrict__ curvatures) {
    extern __shared__ __align__(16) unsigned char shared[];
    float* raw = (float*)shared;                                    // 2 x WORKERS x K x Z_PITCH
    unsigned int* residuals = (unsigned int*)(raw + 2 * WORKERS * K * Z_PITCH);  // 2 x MR x NT x 8 x 4 x (TF32 4, F16 2)
    constexpr int WORDS = OPERAND == TF32 ? 4 : 2;
    constexpr int SIDE = MR * NT * 32 * WORDS;
    float* down = (float*)(residuals + 2 * SIDE);                   // 2 x HELPERS: what scales the products back
    float* scales = down + (2 * HELPERS + 3) / 4 * 4;               // K, then as many inverses
    float* peaks = scales + (2 * K + 3) / 4 * 4;                    // WORKERS x K
    unsigned char* tiles = (unsigned char*)(peaks + (WORKERS * K + 3) / 4 * 4);  // WORKERS x STAGES x ROWS x PITCH
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    const bool is_worker = warp < WORKERS;
    const int first_column = warp * MT * 16;
    unsigned char* own_tiles = tiles + (long long)warp * STAGES * ROWS * PITCH;

    const int n_tiles = (int)((n + ROWS - 1) / ROWS), teams = gridDim.x, team = blockIdx.x;
    const int count = n_tiles > team ? (n_tiles - team + teams - 1) / teams : 0;  // of this block
    auto first_row = [&](int j) { return ((long long)j * teams + team) * ROWS; };
    auto fetch = [&](int j) {  // this worker's columns of tile j
        if (j < count) {
            const long long start = first_row(j);
            const int rows = n - start < ROWS ? (int)(n - start) : ROWS;
            unsigned char* tile = own_tiles + j % STAGES * ROWS * PITCH;
#pragma unroll
            for (int unit = lane % ACROSS; unit < UNITS; unit += ACROSS) {
                const int column = first_column + unit * (VB / (int)sizeof(X_BITS));
                const X_BITS* from = X + (start + lane / ACROSS) * pitch + column;
                unsigned char* to = tile + lane / ACROSS * PITCH + unit * VB;
#pragma unroll 4
                for (int row = 0; row < ROWS; row += 32 / ACROSS) {
                    const bool is_wanted = column < d && row + lane / ACROSS < rows;
                    copy_async(to, from, is_wanted);
                    from += 32 / ACROSS * pitch;
                    to += 32 / ACROSS * PITCH;
                }
            }
        }
        end_of_group();
    };
    if (is_worker)
        for (int j = 0; j < STAGES; ++j) fetch(j);

    // W in the order of the operands, and the scale of each output
    unsigned int w[MT][NT][WORDS];
    if (is_worker) {
#if OPERAND == F16
#pragma unroll
        for (int k = 0; k < K; ++k) {
            float peak = 0.0f;
            for (int column = first_column + lane; column < first_column + MT * 16 && column < d; column += 32) {
                const float x = params[(long long)column * K + k] * (factor != nullptr ? factor[column] : 1.0f);
                peak = fmax(peak, fabs(x));
            }
#pragma unroll
            for (int offset = 16; offset > 0; offset /= 2) peak = fmax(peak, __shfl_xor_sync(ALL_LANES, peak, offset));
            if (lane == 0) peaks[warp * K + k] = peak;
        }
#endif
    }
    __syncthreads();
    if (threadIdx.x < K) {
        float peak = 0.0f;
#if OPERAND == F16
        for (int i = 0; i < WORKERS; ++i) peak = fmax(peak, peaks[i * K + threadIdx.x]);
#endif
        scales[threadIdx.x] = up_scale(peak);
        scales[K + threadIdx.x] = 1.0f / scales[threadIdx.x];
    }
    __syncthreads();
    if (is_worker) {
#pragma unroll
        for (int m = 0; m < MT; ++m)
#pragma unroll
            for (int h = 0; h < NT; ++h) {
                bool is_low;
                const int k = output_of(h, g, is_low);
                float x[4];
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const int column = first_column + m * 16 + column_of(t, i);
                    float coefficient = k >= 0 && column < d ? params[(long long)column * K + k] : 0.0f;
                    if (factor != nullptr && column < d) coefficient *= factor[column];
                    const Terms terms = split(k >= 0 ? coefficient * scales[k] : 0.0f);
                    x[i] = is_low ? terms.low * LOW_SCALE : terms.high;
                }
#if OPERAND == TF32
#pragma unroll
                for (int i = 0; i < 4; ++i) w[m][h][i] = __float_as_uint(x[i]);
#else
                w[m][h][0] = (unsigned int)float_to_half(x[1]) << 16 | float_to_half(x[0]);
                w[m][h][1] = (unsigned int)float_to_half(x[3]) << 16 | float_to_half(x[2]);
#endif
            }
    }

    float G[WHAT == GRADIENT ? MT : 1][GT][4] = {};

    auto forward = [&](int j) {  // this worker's share of the raw predictions of tile j
        wait_but_for<STAGES - 2>();
        __syncwarp();
        const unsigned char* tile = own_tiles + j % STAGES * ROWS * PITCH;
        float* to = raw + ((j & 1) * WORKERS + warp) * K * Z_PITCH;
#pragma unroll 1
        for (int r = 0; r < MR; ++r) {
            const unsigned char* rows = tile + 16 * r * PITCH;
            float z[CHAINS][NT][4] = {};
#pragma unroll
            for (int m = 0; m < MT; ++m)
                times_coefficients(z[m % CHAINS], two_rows(rows + m * 16 * sizeof(X_BITS), g, t), w[m]);
            // high and low terms together, then this lane's outputs of rows g and g + 8
#pragma unroll
            for (int h = 0; h < NT; ++h) {
                const bool is_shared = IS_SHARED && h == NT - 1;
                if (!is_shared && h % 2) continue;
#pragma unroll
                for (int q = 0; q < 4; ++q) {
                    float sum = z[0][h][q] + (CHAINS > 1 ? z[CHAINS - 1][h][q] : 0.0f);
                    if (is_shared) sum += __shfl_xor_sync(ALL_LANES, sum, 2) * (1.0f / LOW_SCALE);
                    else sum += (z[0][LOW_OF(h)][q] + (CHAINS > 1 ? z[CHAINS - 1][LOW_OF(h)][q] : 0.0f)) * (1.0f / LOW_SCALE);
                    const int c = 2 * t + q % 2, k = is_shared ? WHOLE * 8 + c : h / 2 * 8 + c;
                    if (k < K && (!is_shared || c < 4)) to[k * Z_PITCH + 16 * r + g + q / 2 * 8] = sum;
                }
            }
        }
    };

    auto backward = [&](int j) {  // what the residuals of tile j add to this worker's columns
        const unsigned char* tile = own_tiles + j % STAGES * ROWS * PITCH;
        const unsigned int* of_tile = residuals + (j & 1) * SIDE;
#pragma unroll 1
        for (int r = 0; r < MR; ++r) {
            const float scale = OPERAND == F16 ? down[(j & 1) * HELPERS + r / 2] : 1.0f;
            unsigned int b[NT][WORDS];
#pragma unroll
            for (int h = 0; h < NT; ++h) {
                const unsigned int* from = of_tile + (((r * NT + h) * 8 + g) * 4 + t) * WORDS;
#if OPERAND == TF32
                const uint4 words = *(const uint4*)from;
                b[h][0] = words.x; b[h][1] = words.y; b[h][2] = words.z; b[h][3] = words.w;
#else
                const uint2 words = *(const uint2*)from;
                b[h][0] = words.x; b[h][1] = words.y;
#endif
            }
            const unsigned char* rows = tile + 16 * r * PITCH;
#pragma unroll
            for (int m = 0; m < MT; ++m) {
                float part[GT][4] = {};
                times_residuals(part, four_rows(rows + m * 16 * sizeof(X_BITS), g, t), b);
#pragma unroll
                for (int h = 0; h < GT; ++h)
#pragma unroll
                    for (int q = 0; q < 4; ++q) G[m][h][q] += OPERAND == F16 ? part[h][q] * scale : part[h][q];
            }
        }
    };

    double value = 0.0;
    float bias[K];
    if (is_worker) {
        for (int j = -1; j < count; ++j) {
            if (j + 1 < count) forward(j + 1);
            __syncthreads();
            if (j < 0) continue;
            if (WHAT == GRADIENT) backward(j);
            __syncwarp();  // the place of tile j is free
            fetch(j + STAGES);
        }
    } else {
        // A lane has a row; its targets and weight are on their way before they are wanted.
        float b[K], s = 0.0f;
        TARGET y[TARGETS_OF(K)];
        const int own_row = (warp - WORKERS) * 32 + lane;
#pragma unroll
        for (int k = 0; k < K; ++k) {
            bias[k] = 0.0f;
            b[k] = has_bias ? params[(long long)d * K + k] : 0.0f;
        }
        auto expect = [&](int j) {
            const long long row = first_row(j) + own_row;
            const bool is_there = WHAT == GRADIENT && j < count && own_row < ROWS && row < n;
            s = is_there ? S[row] : 0.0f;
#pragma unroll
            for (int k = 0; k < TARGETS_OF(K); ++k) y[k] = is_there ? Y[row * TARGETS_OF(K) + k] : (TARGET)0;
        };
        expect(0);
        __syncthreads();
        for (int j = 0; j < count; ++j) {
            const int place = own_row < ROWS ? own_row : 0;
            const float* from = raw + (j & 1) * WORKERS * K * Z_PITCH + place;
            float z[K];
#pragma unroll
            for (int k = 0; k < K; ++k) {
                float sum = 0.0f;
#pragma unroll
                for (int p = 0; p < WORKERS; ++p) sum += from[(p * K + k) * Z_PITCH];
                z[k] = sum * scales[K + k] + b[k];
            }
#if WHAT == CURVATURE
            const long long row = first_row(j) + own_row;
            point_curvature(z, K, 0);
            if (own_row < ROWS && row < n) {
#pragma unroll
                for (int k = 0; k < K; ++k) curvatures[row * K + k] = z[k];
            }
#else
            const Loss loss = point_loss(z, y, K, 0);
            value += (double)(s * (log1p(loss.excess) + loss.rest));
            float largest = 0.0f;
#pragma unroll
            for (int k = 0; k < K; ++k) {
                z[k] *= s;
                bias[k] += z[k];
                largest = fmax(largest, fabs(z[k]));
            }
            expect(j + 1);
#if OPERAND == F16
#pragma unroll
            for (int offset = 16; offset > 0; offset /= 2)
                largest = fmax(largest, __shfl_xor_sync(ALL_LANES, largest, offset));
#endif
            const float up = up_scale(largest);
            if (OPERAND == F16 && lane == 0) down[(j & 1) * HELPERS + warp - WORKERS] = 1.0f / up;
            if (own_row < ROWS) {
                const int r = own_row / 16, i = own_row % 16 / 4, q = own_row % 4;
                unsigned int* to = residuals + (j & 1) * SIDE + (r * NT * 32 + q) * WORDS;
#pragma unroll
                for (int h = 0; h < NT; ++h)
#pragma unroll
                    for (int c = 0; c < 8; ++c) {
                        bool is_low;
                        const int k = output_of(h, c, is_low);
                        const Terms terms = split(k >= 0 ? z[k >= 0 ? k : 0] * up : 0.0f);
                        const float term = is_low ? terms.low : terms.high;
                        unsigned int* word = to + (h * 8 + c) * 4 * WORDS;
                        if (OPERAND == TF32) word[i] = __float_as_uint(term);
                        else ((unsigned short*)word)[i] = float_to_half(term);
                    }
            }
#endif
            __syncthreads();
        }
    }
#if WHAT == GRADIENT
    float* own = partial + (long long)blockIdx.x * (d + 1) * K;
    if (is_worker) {
#pragma unroll
        for (int m = 0; m < MT; ++m)
#pragma unroll
            for (int h = 0; h < GT; ++h) {
                const bool is_shared = IS_SHARED && h == GT - 1;
#pragma unroll
                for (int q = 0; q < 4; ++q) {
                    float sum = G[m][h][q];
                    if (is_shared) sum += __shfl_xor_sync(ALL_LANES, sum, 2);
                    const int c = 2 * t + q % 2, k = 8 * h + c;
                    const int column = first_column + m * 16 + 2 * g + q / 2;
                    if (column < d && k < K && (!is_shared || c < 4)) own[(long long)column * K + k] = sum;
                }
            }
    }
    __syncthreads();  // shared memory changes hands
    double* values = (double*)shared;                       // HELPERS, then as many parts of the penalty as there are warps
    double* shrinks = values + HELPERS;
    float* biases = (float*)(shrinks + WORKERS + HELPERS);  // HELPERS x K
    double shrink = 0.0;
    if (ridge != nullptr)
        for (int j = blockIdx.x * THREADS + threadIdx.x; j < (d + has_bias) * K; j += gridDim.x * THREADS)
            shrink += 0.5 * (double)ridge[j] * (double)params[j] * (double)params[j];
    shrink = warp_sum(shrink);
    value = warp_sum(value);
#pragma unroll
    for (int k = 0; k < K; ++k) bias[k] = warp_sum(bias[k]);
    if (lane == 0) {
        shrinks[warp] = shrink;
        if (!is_worker) {
            values[warp - WORKERS] = value;
#pragma unroll
            for (int k = 0; k < K; ++k) biases[(warp - WORKERS) * K + k] = bias[k];
        }
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        double total = 0.0;
        for (int i = 0; i < HELPERS; ++i) total += values[i];
        double penalty = 0.0;
        for (int i = 0; i < WORKERS + HELPERS; ++i) penalty += shrinks[i];
        partial_value[blockIdx.x] = total + penalty;
    }
    if (threadIdx.x < K) {
        float total = 0.0f;
        for (int i = 0; i < HELPERS; ++i) total += biases[i * K + threadIdx.x];
        own[(long long)d * K + threadIdx.x] = total;
    }
#endif
}
