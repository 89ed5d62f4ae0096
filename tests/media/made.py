"""Pictures and sounds made for the tests."""

import wave

import av
import numpy as np


def voice(seconds, rate, channels=1, seed=0):
    """Noise with the falling spectrum and the pauses of speech, float32 [channels, samples]."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft(rng.normal(size=(channels, round(seconds * rate))))
    hertz = np.arange(spectrum.shape[1]) / seconds
    sound = np.fft.irfft(spectrum * (hertz > 80) / (1 + (hertz / 500) ** 2), round(seconds * rate))
    sound *= 1 + np.sin(np.arange(sound.shape[1]) * 2 * np.pi * 3 / rate)
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


def save_wav(path, sound, rate):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(sound))
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.round(sound.T * 32767).astype("<i2").tobytes())
    return path


def coded(path, codec, sound, rate=16000, layout="mono"):
    """The bytes of a sound file, float32 [channels, samples], through an encoder."""
    whole = av.AudioFrame.from_ndarray(sound.T.reshape(1, -1).copy(), format="flt", layout=layout)
    whole.sample_rate = rate
    with av.open(path, "w") as file:
        track = file.add_stream(codec, rate=rate, layout=layout)
        size = track.codec_context.frame_size or 1024
        to_codec = av.AudioResampler(format=track.codec_context.format, layout=layout, rate=rate, frame_size=size)
        for frame in [*to_codec.resample(whole), *to_codec.resample(None)]:
            file.mux(track.encode(frame))
        file.mux(track.encode(None))
    return path.read_bytes()


def gradient(height, width):
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 255 / height, columns * 255 / width, 0 * rows + 90], -1).astype(np.uint8)


def moving(frames, height=32, width=48):
    """Frames that each have their own brightness."""
    return np.stack([np.full((height, width, 3), 40 + 5 * (i % 40), np.uint8) for i in range(frames)])


def best_lag(heard, original, most=200):
    """The shift, in samples, at which two sounds agree best, and their correlation there."""
    n = min(len(heard), len(original)) - most
    middle = original[most:n]
    agree = {lag: np.corrcoef(heard[most + lag : n + lag], middle)[0, 1] for lag in range(-most, most + 1)}
    lag = max(agree, key=agree.get)
    return lag, agree[lag]
