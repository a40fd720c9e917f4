// Raw counts to electrons: level and bias subtracted, made linear, divided by the flat, with variance and mask.
//
// NumPy twin: gpudiff/arrays/decode.py, decode(). Contract: exact, since a frame's digest is made of its pixels: double
// to the electrons, no multiply-add in one rounding, float32 from there; any sizes, any channels that tile the image, any degree of the linearity.
// Layout: grid (strips of 256 columns, row, image), a thread a pixel of the trimmed image, which looks up its channel; the
// channels are few, and lanes of a warp nearly always share one.
// Specialised by -DRAW=<type of the counts>.
#ifndef RAW
#define RAW unsigned short
#endif
constexpr int BOX = 6, NUMBERS = 4;
constexpr float LEAST_FLAT = 0.05f;                      // arrays/decode.py says why

extern "C" __global__ void __launch_bounds__(256)
decode(const RAW* __restrict__ raw,                      // (B, raw_height, raw_width)
       const int* __restrict__ masks,                    // the same shape; unused unless masked
       const int* __restrict__ boxes,                    // (B, channels, BOX): x, y, width, height; x, y in the raw image
       const double* __restrict__ numbers,               // (B, channels, NUMBERS + degree): level, gain, read noise, saturation, c
       const float* __restrict__ bias, const float* __restrict__ flats,                            // (B, height, width)
       const unsigned char* __restrict__ defects,
       float* __restrict__ images, float* __restrict__ variances, int* __restrict__ bits,          // (B, height, width)
       int raw_width, int raw_height, int width, int height, int channels, int degree, int masked, int saturated, int bad,
       int missing) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y, b = blockIdx.z;
    if (x >= width) return;
    const size_t at = ((size_t)b * height + y) * width + x;
    int mask = 0;
    float image = nanf(""), variance = nanf("");
#pragma unroll 1
    for (int n = 0; n < channels; n++) {
        const int* box = boxes + (b * channels + n) * BOX;
        const int column = x - box[0], row = y - box[1];
        if (column < 0 || column >= box[2] || row < 0 || row >= box[3]) continue;
        const double* own = numbers + (b * channels + n) * (NUMBERS + degree);
        const size_t from = ((size_t)b * raw_height + box[5] + row) * raw_width + box[4] + column;
        const double counts = (double)raw[from];
        if (counts >= own[3]) mask |= saturated;
        if (masked) mask |= masks[from];
        const double signal = counts - own[0] - (double)bias[at], above = fmax(signal, 0.0);
        double linear = 0.0, slope = 0.0;                // Horner's rule
#pragma unroll 1
        for (int power = degree; power > 0; power--) {
            const double own_power = own[NUMBERS + power - 1];
            linear = __dmul_rn(linear + own_power, above);
            slope = __dmul_rn(slope, above) + __dmul_rn(power, own_power);
        }
        linear += __dmul_rn(own[NUMBERS], fmin(signal, 0.0));
        if (isnan(signal)) linear = signal;              // fmax and fmin drop it
        const double electrons = __dmul_rn(own[1], linear), noise = __dmul_rn(own[2], slope);
        image = (float)electrons;
        variance = isnan(electrons) ? image : (float)(fmax(electrons, 0.0) + __dmul_rn(noise, noise));
        break;
    }
    const bool dark = !(flats[at] >= LEAST_FLAT);        // NaN too
    const float flat = dark ? 1.f : flats[at];
    image /= flat;
    variance /= flat * flat;
    if (defects[at] || dark) mask |= bad;
    if (!isfinite(image) || !isfinite(variance)) {
        mask |= missing;
        image = 0.f;
        variance = 1.f;
    }
    images[at] = image;
    variances[at] = variance;
    bits[at] = mask;
}
