// Pixels that may be a cosmic ray's: brighter than a limit, and along some direction the mean of their two
// neighbours is about as faint as the PSF does not let it be.
//
// NumPy twin: gpudiff/arrays/cosmic_rays.py, _sharp() of suspects(). Contract: all pixels that are sharp there, and as good as
// no others: SLACK of the pixel is room for the rounding of either side. No pixel at the image's edge.
// Layout: a thread a pixel. The list is in the order in which threads arrive; the host sorts it.
constexpr float TRUST = 0.6f, MARGIN = 2.5f, ROOT_HALF = 0.70710678f, SLACK = 1e-5f;

extern "C" __global__ void __launch_bounds__(256)
suspects(const float* __restrict__ image,                // (height, width), the sky taken out
         const float* __restrict__ limits,               // the limit, sigma of the sky, 1 / gain, the PSF's ratios along x, y, both diagonals
         int* __restrict__ count,                        // zero before; all of them, listed or not
         int* __restrict__ places,                       // (capacity,) y * width + x
         int width, int height, int capacity) {
    const int n = blockIdx.x * blockDim.x + threadIdx.x, y = n / width, x = n % width;
    if (y < 1 || y >= height - 1 || x < 1 || x >= width - 1) return;
    const float value = image[n], sigma = limits[1], per_electron = limits[2];
    if (!(value > limits[0])) return;
    const auto noise = [&](float light) { return sqrtf(sigma * sigma + fmaxf(light, 0.f) * per_electron); };
    const float trusted = TRUST * (value - MARGIN * noise(value)), slack = SLACK * value;
    const int steps[4] = {1, width, width + 1, width - 1};
    bool sharp = false;
    for (int d = 0; d < 4; d++) {
        const float mean = 0.5f * (image[n - steps[d]] + image[n + steps[d]]);
        const bool faint = mean + MARGIN * ROOT_HALF * noise(mean) < limits[3 + d] * trusted + slack;
        sharp = sharp || (faint && value - mean > limits[0] - slack);
    }
    if (!sharp) return;
    const int place = atomicAdd(count, 1);
    if (place < capacity) places[place] = n;
}
