// Square cutouts around positions, NaN outside the image.
//
// NumPy twin: gpudiff/arrays/cutouts.py, cutouts(). Contract: exact, pixel by pixel.
// Layout: one block a cutout (grid x), 256 threads; neighbouring threads copy neighbouring pixels of a row.

extern "C" __global__ void __launch_bounds__(256)
cutouts(const float* __restrict__ images,       // (B, height, width)
        const int* __restrict__ frames,         // (N,) which image, 0 <= frame < B
        const double* __restrict__ x,           // (N,) pixels; may be NaN or far outside
        const double* __restrict__ y,
        float* __restrict__ stamps,             // (N, size, size)
        int width, int height, int size) {
    const size_t n = blockIdx.x;
    const double column = floor(x[n] + 0.5), row = floor(y[n] + 0.5);
    // Written so that NaN is far outside too; the bounds keep the conversion to int defined.
    const bool near = column > -size && column < width + size && row > -size && row < height + size;
    const int left = near ? (int)column - size / 2 : width;
    const int top = near ? (int)row - size / 2 : height;
    const float* image = images + (size_t)frames[n] * width * height;
    for (int i = threadIdx.x; i < size * size; i += blockDim.x) {
        const int px = left + i % size, py = top + i / size;
        const bool inside = px >= 0 && px < width && py >= 0 && py < height;
        stamps[n * size * size + i] = inside ? image[(size_t)py * width + px] : nanf("");
    }
}
