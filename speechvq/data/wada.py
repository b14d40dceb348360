"""The table behind `speechvq.data.loudness.estimate_snr`: ln E|z| - E ln|z| against the
signal-to-noise ratio.

z = x + v with |x| ~ Gamma(0.4) of random sign (clean speech) and v Gaussian: the model of Kim &
Stern, "Robust signal-to-noise ratio estimation based on waveform amplitude distribution analysis",
Interspeech 2008. Computed by quadrature over |x| with the closed forms of E|a + v| (error function)
and E ln|a + v| (integral of Dawson's function); the limits are 0.40939 (noise only) and 1.64509
(speech only).
"""

WADA_MIN_DB = -20.0
WADA_STEP_DB = 2.0
# fmt: off
WADA_STATISTIC = (
    0.409435, 0.409498, 0.409644, 0.409974, 0.410687, 0.412148, 0.414969, 0.420066, 0.428654,
    0.442128, 0.461837, 0.488795, 0.523423, 0.565434, 0.613881, 0.667346, 0.724191, 0.782784,
    0.841671, 0.899654, 0.955825, 1.009541, 1.060388, 1.108135, 1.152691, 1.194065, 1.232336,
    1.267630, 1.300102, 1.329921, 1.357266, 1.382311, 1.405231, 1.426189, 1.445345, 1.462844,
    1.478825, 1.493414, 1.506731, 1.518885, 1.529975, 1.540093, 1.549324, 1.557745, 1.565426,
    1.572433, 1.578824, 1.584654, 1.589971, 1.594820, 1.599243, 1.603277, 1.606956, 1.610312,
    1.613372, 1.616163, 1.618708, 1.621030, 1.623147, 1.625078, 1.626839,
)
# fmt: on
