// Launchers for ctypes, and a program that reads a case from standard input for the sanitizers.
extern "C" void shim_linear_pass(
    int grid, int shared_bytes, const X_BITS* X, const LABEL* Y, const REAL* S, const REAL* W,
    const REAL* B, long long n, int d, int staged, double* partial_value, REAL* partial) {
    shim_launch(grid, shared_bytes, [=] {
        linear_pass(X, Y, S, W, B, n, d, staged, partial_value, partial);
    });
}

extern "C" void shim_reduce(
    int grid, int shared_bytes, const double* partial_value, const REAL* partial, int blocks,
    int size, double* value, REAL* gradient) {
    shim_launch(grid, shared_bytes, [=] {
        reduce(partial_value, partial, blocks, size, value, gradient);
    });
}

template <typename T> static std::vector<T> read(long long count) {
    std::vector<T> values(count);
    if (fread(values.data(), sizeof(T), count, stdin) != (size_t)count) std::abort();
    return values;
}

int main() {
    auto head = read<long long>(4);
    long long n = head[0], d = head[1], staged = head[2], blocks = head[3], size = (d + 1) * K;
    auto X = read<X_BITS>(n * d);
    auto Y = read<LABEL>(n);
    auto S = read<REAL>(n), W = read<REAL>(d * K), B = read<REAL>(K);
    std::vector<double> partial_value(blocks), value(1);
    std::vector<REAL> partial(blocks * size), gradient(size);
    shim_linear_pass(blocks, staged ? TILE * d * sizeof(X_BITS) : 0, X.data(), Y.data(), S.data(),
                     W.data(), B.data(), n, d, staged, partial_value.data(), partial.data());
    shim_reduce((size + THREADS - 1) / THREADS, 0, partial_value.data(), partial.data(), blocks, size,
                value.data(), gradient.data());
    fwrite(value.data(), sizeof(double), 1, stdout);
    fwrite(gradient.data(), sizeof(REAL), size, stdout);
}
