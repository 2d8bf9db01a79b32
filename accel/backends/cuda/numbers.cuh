// Numbers as they lie in X and as they are computed with; sums within a warp.
//
// Macros: X_BITS   how an element of X lies in memory: double, float, unsigned char, signed char,
//                  unsigned short (float16 and bfloat16)
//         STORED   which of these it is: NUMBER, BYTE, SIGNED_BYTE, HALF or BFLOAT
//         REAL     arithmetic: float or double
//
// CuPy compiles with -ftz=true, which takes subnormal numbers for zero. PTX instructions that are
// written out do not, so what touches X is written out: subnormal X counts, as on the CPU.

#define NUMBER 0
#define BYTE 1
#define SIGNED_BYTE 2
#define HALF 3
#define BFLOAT 4
#define ALL_LANES 0xFFFFFFFFu

#ifdef HOST  // the shim of the tests
__device__ inline float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
__device__ inline float subtract(float a, float b) { return a - b; }
__device__ inline float half_to_float(unsigned short h) {
    const float magnitude = __uint_as_float((h & 0x7FFFu) << 13) * 5.192296858534828e33f;  // 2^112
    return h & 0x8000u ? -magnitude : magnitude;
}
#else
__device__ inline float multiply_add(float a, float b, float c) {
    float sum;
    asm("fma.rn.f32 %0, %1, %2, %3;" : "=f"(sum) : "f"(a), "f"(b), "f"(c));
    return sum;
}
__device__ inline float subtract(float a, float b) {
    float difference;
    asm("sub.rn.f32 %0, %1, %2;" : "=f"(difference) : "f"(a), "f"(b));
    return difference;
}
__device__ inline float half_to_float(unsigned short h) {
    float number;
    asm("cvt.f32.f16 %0, %1;" : "=f"(number) : "h"(h));
    return number;
}
#endif
__device__ inline double multiply_add(double a, double b, double c) { return fma(a, b, c); }
__device__ inline double subtract(double a, double b) { return a - b; }

__device__ inline REAL decode(X_BITS x) {
#if STORED == HALF
    return (REAL)half_to_float(x);
#elif STORED == BFLOAT
    return (REAL)__uint_as_float((unsigned int)x << 16);
#else
    return (REAL)x;
#endif
}

// A load of BYTES bytes, and the elements in it.
template <int BYTES> struct Word;
template <> struct Word<1> { typedef unsigned char T; };
template <> struct Word<2> { typedef unsigned short T; };
template <> struct Word<4> { typedef unsigned int T; };
template <> struct Word<8> { typedef uint2 T; };
template <> struct Word<16> { typedef uint4 T; };

template <int BYTES> union Pack {
    typename Word<BYTES>::T whole;
    X_BITS part[BYTES / sizeof(X_BITS)];
    unsigned int word[BYTES >= 4 ? BYTES / 4 : 1];

    // Element e. A byte becomes a float by its place in the mantissa of 2^23, which no conversion
    // unit has to do; a signed one as the byte that is 128 larger.
    __device__ inline REAL at(int e) const {
#if (STORED == BYTE || STORED == SIGNED_BYTE)
        if (sizeof(REAL) == 4 && BYTES >= 4) {
            const unsigned int bits = STORED == SIGNED_BYTE ? word[e / 4] ^ 0x80808080u : word[e / 4];
            const float least = STORED == SIGNED_BYTE ? 8388736.0f : 8388608.0f;
            return __uint_as_float(__byte_perm(bits, 0x4B000000u, 0x7440 + e % 4)) - least;
        }
#endif
        return decode(part[e]);
    }
};

template <typename T> __device__ inline T warp_sum(T x) {
#pragma unroll
    for (int lane = 16; lane > 0; lane /= 2) x += __shfl_xor_sync(ALL_LANES, x, lane);
    return x;
}
