// Star candidates: of each 16 x 16 block of an image the brightest pixel, where it is above a threshold and a maximum within 3 px.
//
// NumPy twin: gpudiff/arrays/peaks.py, peaks(). Contract: exact; at most one a block, so that the table of blocks is the list,
// in its order whatever the order of the warps.
// Layout: grid (8 blocks in x, blocks in y, image), a warp a block: a lane has half a column. What is below the threshold, which
// is nearly everything, is read once and left.
constexpr int SIDE = 16, REACH = 3, EDGE = 4, WARPS = 8, NONE = -1;

extern "C" __global__ void __launch_bounds__(256)
peaks(const float* __restrict__ images,                  // (B, height, width), no NaN but where lost
      const unsigned char* __restrict__ lost,            // the same, where not 0 the image counts as 0; read if some_lost
      const float* __restrict__ thresholds,              // (B,)
      int* __restrict__ found,                           // (B, rows, columns): y * width + x, or -1
      int width, int height, int columns, int some_lost) {
    const int lane = threadIdx.x % 32, i = blockIdx.x * WARPS + threadIdx.x / 32, j = blockIdx.y;
    if (i >= columns) return;                            // the whole warp
    const size_t plane = (size_t)blockIdx.z * width * height;
    const auto seen = [&](int pixel) { return some_lost && lost[plane + pixel] ? 0.f : images[plane + pixel]; };
    const int corner = j * SIDE * width + i * SIDE;
    int best = 0;                                        // in the block, row by row
    float top = 0.f;
    for (int n = lane; n < SIDE * SIDE; n += 32) {
        const float value = seen(corner + n / SIDE * width + n % SIDE);
        if (n < 32 || value > top) top = value, best = n;
    }
    if (__any_sync(0xffffffffu, top > thresholds[blockIdx.z])) {
        for (int far = 16; far > 0; far /= 2) {          // of equals the first
            const float other = __shfl_xor_sync(0xffffffffu, top, far);
            const int its = __shfl_xor_sync(0xffffffffu, best, far);
            if (other > top || (other == top && its < best)) top = other, best = its;
        }
        const int y = j * SIDE + best / SIDE, x = i * SIDE + best % SIDE, pixel = y * width + x, side = 2 * REACH + 1;
        bool is = y >= EDGE && y < height - EDGE && x >= EDGE && x < width - EDGE;
        for (int n = lane; is && n < side * side; n += 32)
            is = seen(pixel + (n / side - REACH) * width + n % side - REACH) <= images[plane + pixel];
        best = __all_sync(0xffffffffu, is) ? pixel : NONE;
    } else {
        best = NONE;
    }
    if (lane == 0) found[((size_t)blockIdx.z * gridDim.y + j) * columns + i] = best;
}
