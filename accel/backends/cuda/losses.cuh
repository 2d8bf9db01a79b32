// One row of the losses: the formulas of accel/losses.py, which are the oracle in the tests.
//
// Macros: LOSS         LOGISTIC (one output, Y -1 or +1), SOFTMAX (Y the class index), or the quadratic form
//                      of either, LOGISTIC_QUADRATIC (Y the curvature) and SOFTMAX_QUADRATIC (Y the
//                      probabilities): its pass is a product with the Hessian
//         TARGET       type of Y
//         POINT_LANES  lanes of a warp that share a row, a power of two; 1 where not given

#define LOGISTIC 0
#define SOFTMAX 1
#define LOGISTIC_QUADRATIC 2
#define SOFTMAX_QUADRATIC 3
#define TARGETS_OF(outputs) (LOSS == SOFTMAX_QUADRATIC ? (outputs) : 1)  // of a row
#define LEAST ((REAL)__uint_as_float(0xFF800000u))  // minus infinity
#ifndef POINT_LANES
#define POINT_LANES 1
#endif

__device__ inline REAL lanes_sum(REAL x) {
#pragma unroll
    for (int offset = POINT_LANES / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(ALL_LANES, x, offset);
    return x;
}
__device__ inline REAL lanes_max(REAL x) {
#pragma unroll
    for (int offset = POINT_LANES / 2; offset > 0; offset /= 2)
        x = fmax(x, __shfl_xor_sync(ALL_LANES, x, offset));
    return x;
}

// What the loss of a row is made of, so that its logarithm can wait until many rows are there:
// the loss is log1p(excess) + rest.
struct Loss { REAL excess, rest; };

// Loss of a row whose raw predictions are z and whose targets are y; z becomes its gradient. Lane `lane`
// of those who share the row does the outputs lane, lane + POINT_LANES ...; all of them return the loss.
__device__ inline Loss point_loss(REAL* z, const TARGET* y, int outputs, int lane) {
#if LOSS == LOGISTIC
    const REAL sign = (REAL)y[0], margin = sign * z[0], e = exp(-fabs(margin));
    z[0] = -sign * (margin > (REAL)0 ? e : (REAL)1) / ((REAL)1 + e);
    return {e, margin < (REAL)0 ? -margin : (REAL)0};
#elif LOSS == LOGISTIC_QUADRATIC
    const REAL slope = (REAL)y[0] * z[0], loss = (REAL)0.5 * slope * z[0];
    z[0] = slope;
    return {(REAL)0, loss};
#elif LOSS == SOFTMAX
    const int label = (int)y[0];
    REAL largest = LEAST, others = (REAL)0, own = (REAL)0, at_own = (REAL)0;
#pragma unroll
    for (int k = lane; k < outputs; k += POINT_LANES) largest = z[k] > largest ? z[k] : largest;
    largest = lanes_max(largest);
#pragma unroll
    for (int k = lane; k < outputs; k += POINT_LANES) {
        const REAL shifted = z[k] - largest, e = exp(shifted);
        z[k] = e;
        own += k == label ? shifted : (REAL)0;
        at_own += k == label ? e : (REAL)0;
        others += k == label ? (REAL)0 : e;
    }
    own = lanes_sum(own);
    at_own = lanes_sum(at_own);
    others = lanes_sum(others);
    const REAL share = (REAL)1 / (others + at_own);
#pragma unroll
    for (int k = lane; k < outputs; k += POINT_LANES) z[k] = share * (k == label ? -others : z[k]);
    // log(total) = log1p(total - 1) would lose digits where own is not the largest
    // own is zero, or NaN where the raw predictions are not finite
    return own < (REAL)0 ? Loss{(REAL)0, log(others + at_own) - own} : Loss{others, -own};
#else
    REAL mean = (REAL)0, loss = (REAL)0;
#pragma unroll
    for (int k = lane; k < outputs; k += POINT_LANES) mean += (REAL)y[k] * z[k];
    mean = lanes_sum(mean);
#pragma unroll
    for (int k = lane; k < outputs; k += POINT_LANES) {
        const REAL deviation = z[k] - mean;
        z[k] = (REAL)y[k] * deviation;
        loss += z[k] * deviation;
    }
    return {(REAL)0, (REAL)0.5 * lanes_sum(loss)};
#endif
}

// The curvature of a row, as Loss.curvature gives it, in the place of its raw predictions.
__device__ inline void point_curvature(REAL* z, int outputs, int lane) {
#if LOSS == LOGISTIC
    const REAL e = exp(-fabs(z[0]));
    z[0] = e / (((REAL)1 + e) * ((REAL)1 + e));
#elif LOSS == SOFTMAX
    REAL largest = LEAST, total = (REAL)0;
#pragma unroll
    for (int k = lane; k < outputs; k += POINT_LANES) largest = z[k] > largest ? z[k] : largest;
    largest = lanes_max(largest);
#pragma unroll
    for (int k = lane; k < outputs; k += POINT_LANES) {
        z[k] = exp(z[k] - largest);
        total += z[k];
    }
    total = lanes_sum(total);
#pragma unroll
    for (int k = lane; k < outputs; k += POINT_LANES) z[k] = z[k] / total;
#endif
}
