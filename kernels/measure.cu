// Point sources on stamps: the stamps cut from planes, PSFs moved by parts of a pixel, PSF flux and position, flux at a known position, aperture.
//
// NumPy twin: gpudiff/arrays/measure.py, a function of the same name for each. Contract: all sums in double; a moved image in
// float32, as in NumPy. NumPy moves by a phase in Fourier space on `size` x `size` pixels; that is a product with two matrices,
// the periodic sinc along each axis, and for an even size one term more: the highest frequency along y, which
// has no conjugate to make it real, turns with the phase too and comes back through the product along x.
// Layout: a block a stamp (grid x), 128 threads, a thread every 128th pixel. The stamp's PSF, moved and not, lies in
// shared memory; sums go by shuffles, then over the warps in order, so all threads have the same and no two runs differ.
constexpr int THREADS = 128, WARPS = THREADS / 32;
constexpr double PI = 3.14159265358979323846;

// The band-limited function of period `size` that is 1 at 0 and 0 at all other whole numbers.
__device__ double sinc(double at, int size) {
    at -= size * rint(at / size);
    if (at == 0.0) return 1.0;
    const double turn = PI * at / size;
    return sinpi(at) / (size * (size % 2 ? sin(turn) : tan(turn)));
}

// Its conjugate (every frequency a quarter turn on), for an even size.
__device__ double conjugate(double at, int size) {
    at -= size * rint(at / size);
    if (at == 0.0) return 0.0;
    const double half = sinpi(0.5 * at);
    return 2.0 * half * half / (size * tan(PI * at / size));
}

// Bytes: measure.py, shared_bytes(); doubles first.
struct Room {
    double *along_y, *along_x, *turned, *highest, *light, *between;
    float *image, *moved;
    __device__ Room(double* start, int side) {
        const int taps = 2 * side - 1;
        along_y = start;
        along_x = along_y + taps;
        turned = along_x + taps;
        highest = turned + taps;
        light = highest + side;
        between = light + side;
        image = (float*)(between + side * side);
        moved = image + side * side;
    }
};

// room.moved = room.image moved by (dy, dx). Called by the whole block; image must be there, moved is on return.
__device__ void move(const Room& room, int side, int size, double dy, double dx) {
    const int pixels = side * side, middle = side - 1;
    for (int n = threadIdx.x; n < 2 * side - 1; n += THREADS) {
        room.along_y[n] = sinc(n - middle - dy, size);
        room.along_x[n] = sinc(n - middle - dx, size);
        room.turned[n] = conjugate(n - middle - dx, size);
    }
    for (int x = threadIdx.x; x < side; x += THREADS) {
        double sum = 0.0;
        for (int y = 0; y < side; y++) sum += y % 2 ? -room.image[y * side + x] : room.image[y * side + x];
        room.highest[x] = sum;
    }
    __syncthreads();
    for (int n = threadIdx.x; n < pixels; n += THREADS) {
        const int y = n / side, x = n % side;
        double sum = 0.0;
        for (int j = 0; j < side; j++) sum = fma(room.along_y[y - j + middle], (double)room.image[j * side + x], sum);
        room.between[n] = sum;
    }
    const double share = size % 2 ? 0.0 : -sinpi(dy) / size;
    for (int x = threadIdx.x; x < side; x += THREADS) {
        double sum = 0.0;
        for (int i = 0; i < side; i++) sum = fma(room.turned[x - i + middle], room.highest[i], sum);
        room.light[x] = share * sum;
    }
    __syncthreads();
    for (int n = threadIdx.x; n < pixels; n += THREADS) {
        const int y = n / side, x = n % side;
        double sum = y % 2 ? -room.light[x] : room.light[x];
        for (int i = 0; i < side; i++) sum = fma(room.between[y * side + i], room.along_x[x - i + middle], sum);
        room.moved[n] = (float)sum;
    }
    __syncthreads();
}

__device__ void load(const float* from, float* to, int pixels) {
    for (int n = threadIdx.x; n < pixels; n += THREADS) to[n] = from[n];
    __syncthreads();
}

__device__ void store(const float* from, float* to, int pixels) {
    for (int n = threadIdx.x; n < pixels; n += THREADS) to[n] = from[n];
}

// The sums over all threads, in all threads. Between two calls with as many sums there must be a barrier.
template <int N> __device__ void add_up(double (&sums)[N]) {
    __shared__ double parts[WARPS][N];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
    for (int n = 0; n < N; n++) {
        for (int step = 16; step > 0; step /= 2) sums[n] += __shfl_xor_sync(0xffffffffu, sums[n], step);
        if (lane == 0) parts[warp][n] = sums[n];
    }
    __syncthreads();
#pragma unroll
    for (int n = 0; n < N; n++) {
        sums[n] = parts[0][n];
        for (int other = 1; other < WARPS; other++) sums[n] += parts[other][n];
    }
}

// (information, flux times information) of a profile.
__device__ void weigh(const float* data, const float* weight, const float* profile, int pixels, double (&sums)[2]) {
    sums[0] = sums[1] = 0.0;
    for (int n = threadIdx.x; n < pixels; n += THREADS) {
        const double share = profile[n];
        sums[0] += weight[n] * share * share;
        sums[1] += (double)(weight[n] * profile[n]) * data[n];
    }
    add_up(sums);
}

// The solution of m x = b, m symmetric, positive definite: (00, 01, 02, 11, 12, 22).
__device__ void solve(const double* m, const double* b, double* x) {
    const double below = m[1] / m[0], last = m[2] / m[0];
    const double second = m[3] - below * m[1], cross = m[4] - last * m[1], lower = cross / second;
    const double third = m[5] - last * m[2] - lower * cross;
    const double middle = b[1] - below * b[0];
    x[2] = (b[2] - last * b[0] - lower * middle) / third;
    x[1] = middle / second - lower * x[2];
    x[0] = b[0] / m[0] - below * x[1] - last * x[2];
}

// NaN stays NaN.
__device__ double within(double value, double most) { return value > most ? most : value < -most ? -most : value; }

// Squares round the first places of each image's list, and their weights; grid (most, 1, image), a block a place.
extern "C" __global__ void __launch_bounds__(THREADS)
weighed(const float* __restrict__ images,        // (B, height, width)
        const float* __restrict__ variances,     // (B, height, width)
        const int* __restrict__ counts,          // (B,) may be more than there are places
        const int* __restrict__ places,          // (B, capacity) y * width + x
        float* __restrict__ data,                // (B, most, side, side) 0 where there is no value
        float* __restrict__ weight,              // (B, most, side, side) 0 there
        int width, int height, int capacity, int side) {
    const size_t image = blockIdx.z, plane = image * width * height;
    const bool listed = blockIdx.x < (unsigned)min(counts[image], capacity);
    const int place = listed ? places[image * capacity + blockIdx.x] : 0;
    const int top = place / width - side / 2, left = place % width - side / 2;
    const size_t first = (image * gridDim.x + blockIdx.x) * side * side;
    for (int n = threadIdx.x; n < side * side; n += THREADS) {
        const int y = top + n / side, x = left + n % side;
        const bool inside = listed && y >= 0 && y < height && x >= 0 && x < width;
        const size_t pixel = plane + (inside ? (size_t)y * width + x : 0);
        const float value = images[pixel], level = variances[pixel];
        const bool known = inside && isfinite(value) && level > 0.f;
        data[first + n] = known ? value : 0.f;
        weight[first + n] = known ? 1.f / level : 0.f;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
shifted(const float* __restrict__ images,        // (N, side, side)
        const double* __restrict__ offsets,      // (N, 2) dy, dx
        float* __restrict__ out,                 // (N, side, side)
        int side, int size) {
    extern __shared__ double start[];
    const Room room(start, side);
    const size_t first = (size_t)blockIdx.x * side * side;
    load(images + first, room.image, side * side);
    move(room, side, size, offsets[2 * blockIdx.x], offsets[2 * blockIdx.x + 1]);
    store(room.moved, out + first, side * side);
}

extern "C" __global__ void __launch_bounds__(THREADS)
fit_points(const float* __restrict__ data,       // (N, side, side) finite
           const float* __restrict__ weight,     // (N, side, side) 0 where there is no value
           const float* __restrict__ psf,        // (N, side, side)
           float* __restrict__ profiles,         // (N, side, side) the PSF at the fitted position
           double* __restrict__ table,           // (N, 13) dy, dx, flux, chi2, pixels, converged, seen; the matrix
           int side, int size, int rounds) {
    extern __shared__ double start[];
    const Room room(start, side);
    const int pixels = side * side;
    const size_t first = (size_t)blockIdx.x * pixels;
    data += first;
    weight += first;
    load(psf + first, room.image, pixels);
    double dy = 0.0, dx = 0.0, sums[9] = {};
    bool converged = true;
#pragma unroll 1
    for (int round = 0; round < rounds; round++) {
        move(room, side, size, dy, dx);
        for (int n = 0; n < 9; n++) sums[n] = 0.0;
        for (int n = threadIdx.x; n < pixels; n += THREADS) {
            const int y = n / side, x = n % side;
            const float* row = room.moved + y * side;
            const float up = room.moved[(y + 1) % side * side + x], down = room.moved[(y + side - 1) % side * side + x];
            const double p = row[x], py = -0.5f * (up - down);
            const double px = -0.5f * (row[(x + 1) % side] - row[(x + side - 1) % side]);
            const double w = weight[n], wp = w * p, wy = w * py, wx = w * px, value = data[n];
            sums[0] += wp * p;
            sums[1] += wp * py;
            sums[2] += wp * px;
            sums[3] += wy * py;
            sums[4] += wy * px;
            sums[5] += wx * px;
            sums[6] += wp * value;
            sums[7] += wy * value;
            sums[8] += wx * value;
        }
        add_up(sums);
        const double ridge = 1e-30 + 1e-9 * (sums[0] + sums[3] + sums[5]);
        sums[0] += ridge;
        sums[3] += ridge;
        sums[5] += ridge;
        double found[3];
        solve(sums, sums + 6, found);
        if (found[0] != 0.0) {
            dy += within(found[1] / found[0], 0.7);
            dx += within(found[2] / found[0], 0.7);
        }
        converged = converged && sqrt(dy * dy + dx * dx) < 2.5;
        if (!converged) dy = dx = 0.0;           // it ran away: back to the centre, for good
    }
    move(room, side, size, dy, dx);
    store(room.moved, profiles + first, pixels);
    double light[2], rest[4] = {};
    weigh(data, weight, room.moved, pixels, light);
    const double flux = light[1] / light[0];
    for (int n = threadIdx.x; n < pixels; n += THREADS) {
        const double p = room.moved[n], left = data[n] - flux * p;
        rest[0] += weight[n] * left * left;
        rest[1] += weight[n] > 0.f;
        rest[2] += weight[n] > 0.f ? p * p : 0.0;
        rest[3] += p * p;
    }
    add_up(rest);
    if (threadIdx.x > 0) return;
    double* row = table + 13 * (size_t)blockIdx.x;
    row[0] = dy;
    row[1] = dx;
    row[2] = flux;
    row[3] = rest[0];
    row[4] = rest[1];
    row[5] = converged;
    row[6] = rest[2] / rest[3];
    for (int n = 0; n < 6; n++) row[7 + n] = sums[n];
}

extern "C" __global__ void __launch_bounds__(THREADS)
forced(const float* __restrict__ data,           // (N, side, side) finite
       const float* __restrict__ weight,         // (N, side, side)
       const float* __restrict__ profiles,       // (N, side, side)
       double* __restrict__ table,               // (N, 2) flux, error
       int side) {
    const int pixels = side * side;
    const size_t first = (size_t)blockIdx.x * pixels;
    double sums[2];
    weigh(data + first, weight + first, profiles + first, pixels, sums);
    if (threadIdx.x > 0) return;
    table[2 * blockIdx.x] = sums[1] / sums[0];
    table[2 * blockIdx.x + 1] = 1.0 / sqrt(sums[0]);
}

extern "C" __global__ void __launch_bounds__(THREADS)
aperture(const float* __restrict__ data,         // (N, side, side) NaN where there is no value
         const float* __restrict__ variance,     // (N, side, side)
         const double* __restrict__ offsets,     // (N, 2) dy, dx from the stamp's centre
         double* __restrict__ table,             // (N, 2) flux, error
         int side, double radius) {
    const size_t first = (size_t)blockIdx.x * side * side;
    double sums[2] = {};
    for (int n = threadIdx.x; n < side * side; n += THREADS) {
        const double y = n / side - side / 2 - offsets[2 * blockIdx.x], x = n % side - side / 2 - offsets[2 * blockIdx.x + 1];
        if (y * y + x * x <= radius * radius) {
            sums[0] += data[first + n];
            sums[1] += variance[first + n];
        }
    }
    add_up(sums);
    if (threadIdx.x > 0) return;
    table[2 * blockIdx.x] = sums[0];
    table[2 * blockIdx.x + 1] = sqrt(sums[1]);
}
