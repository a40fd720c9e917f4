// An image read off another's pixel grid: 8 x 8 interpolation that keeps flux, with what bad pixels make of it.
//
// NumPy twin: gpudiff/arrays/resample.py, resample(). Contract: positions in double, values in float32 sums; a position within
// rounding of half a phase may take the next one; any image sizes.
// Layout: grid (strips of 32 columns, strips of 8 rows, image), a thread a value. Positions are products of small matrices:
// one (height, cells) a plane, made on the host, by one (cells, width) for all; neighbouring threads read neighbouring
// columns of it. Most positions of a warp fall on neighbouring pixels of the source, so its reads hit the cache.
constexpr int TAPS = 8, PHASES = 2048;
constexpr float LOST = 0.15f, FORMS = 0.02f;             // arrays/resample.py says why

__device__ int inside(int position, int length) { return min(max(position, 0), length - 1); }

extern "C" __global__ void __launch_bounds__(256)
resample(const float* __restrict__ images,               // (B, from_height, from_width)
         const unsigned char* __restrict__ bad,          // the same shape
         const int* __restrict__ masks,                  // the same shape
         const double* __restrict__ rows,                // (B, 3, height, cells): y, x, area
         const double* __restrict__ columns,             // (B, cells, width)
         const float* __restrict__ table,                // (B, PHASES + 1, TAPS)
         float* __restrict__ values, unsigned char* __restrict__ lost, int* __restrict__ bits,      // (B, height, width)
         int from_width, int from_height, int width, int height, int cells) {
    const int column = blockIdx.x * 32 + threadIdx.x % 32, row = blockIdx.y * 8 + threadIdx.x / 32, b = blockIdx.z;
    if (column >= width || row >= height) return;
    const size_t at = ((size_t)b * height + row) * width + column;
    double place[3] = {};
    for (int cell = 0; cell < cells; cell++) {
        const double own = columns[((size_t)b * cells + cell) * width + column];
        for (int n = 0; n < 3; n++) place[n] += rows[(((size_t)b * 3 + n) * height + row) * cells + cell] * own;
    }
    const double y = fmin(fmax(place[0], -2.0), from_height + 1.0), x = fmin(fmax(place[1], -2.0), from_width + 1.0);
    const bool outside = !(place[0] >= -1 && place[0] <= from_height && place[1] >= -1 && place[1] <= from_width);
    const int whole_y = (int)floor(y), whole_x = (int)floor(x);
    const int phase_y = (int)rint((y - whole_y) * PHASES), phase_x = (int)rint((x - whole_x) * PHASES);
    const float* own_table = table + (size_t)b * (PHASES + 1) * TAPS;
    const float* down = own_table + phase_y * TAPS;
    const float* across = own_table + phase_x * TAPS;
    const size_t plane = (size_t)b * from_width * from_height;
    float value = 0.f, weight = 0.f, spoilt = 0.f;
    for (int j = 0; j < TAPS; j++) {
        const int from_y = whole_y + j - (TAPS / 2 - 1);
        const bool above = from_y < 0 || from_y >= from_height;
        const size_t line_at = plane + (size_t)inside(from_y, from_height) * from_width;
        float line = 0.f;
        for (int i = 0; i < TAPS; i++) {
            const int from_x = whole_x + i - (TAPS / 2 - 1);
            const size_t pixel = line_at + inside(from_x, from_width);
            const float size = fabsf(down[j] * across[i]);
            line = fmaf(images[pixel], across[i], line);
            weight += size;
            if (above || from_x < 0 || from_x >= from_width || bad[pixel]) spoilt += size;
        }
        value = fmaf(line, down[j], value);
    }
    const bool gone = outside || spoilt > LOST * weight;
    int found = 0;
    const int near_y = whole_y + (phase_y > PHASES / 2), near_x = whole_x + (phase_x > PHASES / 2);
    if (near_y >= 0 && near_y < from_height && near_x >= 0 && near_x < from_width)
        found = masks[plane + (size_t)near_y * from_width + near_x];
    if (gone && !outside && spoilt > 0.f)
        for (int j = 0; j < TAPS; j++)
            for (int i = 0; i < TAPS; i++) {
                const int from_y = whole_y + j - (TAPS / 2 - 1), from_x = whole_x + i - (TAPS / 2 - 1);
                if (from_y < 0 || from_y >= from_height || from_x < 0 || from_x >= from_width) continue;
                const size_t pixel = plane + (size_t)from_y * from_width + from_x;
                if (bad[pixel] && fabsf(down[j] * across[i]) > FORMS * weight) found |= masks[pixel];
            }
    values[at] = outside ? 0.f : (float)(value * place[2]);
    lost[at] = gone;
    bits[at] = found;
}
