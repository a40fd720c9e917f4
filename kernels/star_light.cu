// How significant the light of static stars is, and its shift by a pixel, in squares round them: sums under a PSF.
//
// NumPy twin: gpudiff/arrays/star_light.py, light_round(), which makes its shares of these sums. Contract: float32 sums, pixel
// by pixel of the PSF; beyond the plane a square repeats its edge pixels; slopes are taken within the square alone.
// Layout: a thread a pixel of a square, 128 a block.
struct Square {
    const float *matched, *variance;                     // (height, width)
    const unsigned char* lost;                           // (height, width)
    int width, height, top, left;
    __device__ size_t at(int y, int x) const {
        return (size_t)min(max(top + y, 0), height - 1) * width + min(max(left + x, 0), width - 1);
    }
    __device__ float light(int y, int x) const {
        const size_t pixel = at(y, x);
        return lost[pixel] || isnan(matched[pixel]) ? 0.f : matched[pixel];
    }
    __device__ float weight(int y, int x) const {
        const size_t pixel = at(y, x);
        return !lost[pixel] && variance[pixel] > 0.f ? 1.f / variance[pixel] : 0.f;
    }
};

extern "C" __global__ void __launch_bounds__(128)
light_round(const float* __restrict__ matched, const float* __restrict__ variance,   // (height, width)
            const unsigned char* __restrict__ lost,      // (height, width)
            const int* __restrict__ rows, const int* __restrict__ columns,           // (count,) the stars' pixels
            const float* __restrict__ psfs,              // (count, K, K), K = 2 half + 1
            float* __restrict__ sums,                    // (4, count, R, R): light, its slopes, information; R = 2 reach + 1
            int width, int height, int count, int reach, int half) {
    const int wide = 2 * reach + 1, taps = 2 * half + 1, last = wide + taps - 2;
    const int n = blockIdx.x * blockDim.x + threadIdx.x, star = n / (wide * wide), y = n / wide % wide, x = n % wide;
    if (star >= count) return;
    const float* psf = psfs + (size_t)star * taps * taps;
    const Square square{matched, variance, lost, width, height, rows[star] - reach - half, columns[star] - reach - half};
    float light = 0.f, down = 0.f, across = 0.f, information = 0.f;
    for (int j = y; j < y + taps; j++) {
        const int above = max(j - 1, 0), below = min(j + 1, last);
        for (int i = x; i < x + taps; i++) {
            const float share = *psf++, weight = square.weight(j, i), weighted = share * weight;
            if (weight == 0.f) continue;
            const int before = max(i - 1, 0), after = min(i + 1, last);
            light += weighted * square.light(j, i);
            down += weighted * (square.light(below, i) - square.light(above, i)) / (below - above);
            across += weighted * (square.light(j, after) - square.light(j, before)) / (after - before);
            information += weighted * share;
        }
    }
    const size_t all = (size_t)count * wide * wide;
    sums[n] = light;
    sums[all + n] = down;
    sums[2 * all + n] = across;
    sums[3 * all + n] = information;
}
