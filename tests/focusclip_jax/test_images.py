import io
import pathlib

import numpy as np
import PIL.Image
import pytest

from focusclip_jax.data.images import decode, decode_view, load_rgb, model_input, resize
from focusclip_jax.errors import UserError

GOLDEN = np.load(pathlib.Path(__file__).parent / "golden" / "preprocessing.npz")
SIDE = 16


def photograph(height=96, width=160):
    """Smooth colours, as JPEG keeps well."""
    y, x = np.mgrid[:height, :width]
    channels = [np.sin(x / 17) * np.cos(y / 11), np.cos(x / 23), np.sin((x + y) / 31)]
    return (127 + 100 * np.stack(channels, -1)).astype(np.uint8)


def encoded(image, kind="JPEG", mode="RGB", **options):
    stream = io.BytesIO()
    PIL.Image.fromarray(image).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def test_a_jpeg_is_decoded_to_its_colours():
    image = photograph()
    decoded = decode(encoded(image, quality=95, subsampling=0))
    assert decoded.dtype == np.uint8
    assert decoded.shape == image.shape
    assert np.abs(decoded.astype(int) - image).mean() < 2


def test_a_grey_jpeg_has_three_equal_channels():
    decoded = decode(encoded(photograph(), mode="L"))
    assert decoded.shape == (96, 160, 3)
    assert (decoded == decoded[..., :1]).all()


@pytest.mark.parametrize(
    ("least", "shape"), [((48, 80), (48, 80)), ((49, 1), (60, 100)), ((500, 0), (96, 160))]
)
def test_a_scaled_decode_is_as_small_as_allowed(least, shape):
    assert decode(encoded(photograph()), min_size=least).shape[:2] == shape


def test_a_scaled_decode_shows_the_same_picture():
    data = encoded(photograph(), quality=95)
    whole, small = decode(data), decode(data, min_size=(48, 80))
    a, b = resize(whole, (0, 0, 160, 96), (24, 40)), resize(small, (0, 0, 80, 48), (24, 40))
    assert np.abs(a.astype(int) - b).mean() < 1.5


@pytest.mark.parametrize("damage", [lambda d: d[: len(d) // 2], lambda d: b"GIF89a" + d, lambda d: b""])
def test_what_is_no_whole_jpeg_is_refused_by_name(damage):
    with pytest.raises(UserError, match="the shard record 3: not a readable JPEG"):
        decode(damage(encoded(photograph())), "the shard record 3")


def test_resize_takes_the_box_and_antialiases():
    checks = np.indices((64, 64)).sum(0) % 2 * 255
    image = np.repeat(checks.astype(np.uint8)[..., None], 3, -1)
    image[:32] = 200
    small = resize(image, (0, 32, 64, 64), (8, 8))
    assert small.shape == (8, 8, 3)
    assert np.abs(small[2:].astype(int) - 127).max() < 10
    assert (resize(image, (8.5, 4.25, 50, 20), (8, 8)) == 200).all()


def test_resize_of_everything_to_the_same_size_changes_nothing():
    image = photograph()
    np.testing.assert_array_equal(resize(image, (0, 0, 160, 96), (96, 160)), image)


@pytest.mark.parametrize("size", [name.split()[0] for name in GOLDEN if name.endswith("crop")])
def test_a_crop_has_the_pixels_of_clips_image_processor(size):
    image = GOLDEN[f"{size} image"]
    np.testing.assert_array_equal(model_input(image, (SIDE, SIDE), "crop", "bicubic"), GOLDEN[f"{size} crop"])


def test_a_crop_keeps_the_aspect_ratio_and_a_stretch_keeps_everything():
    image = np.zeros((30, 60, 3), np.uint8)
    image[:, :15] = image[:, 45:] = 255  # all but the central square is white
    assert (model_input(image, (10, 10), "crop", "bilinear")[:, 1:-1] == 0).all()
    stretched = model_input(image, (10, 20), "stretch", "bilinear")
    np.testing.assert_array_equal(stretched, resize(image, (0, 0, 60, 30), (10, 20)))
    assert (stretched[:, 0] == 255).all()
    assert (stretched[:, -1] == 255).all()


@pytest.mark.parametrize("size", [(7, 50), (50, 7), (12, 20), (13, 13)])
def test_a_crop_fills_any_size_from_any_image(size):
    for height, width in [(1, 1), (3, 100), (100, 3), (12, 20), (31, 52)]:
        image = np.full((height, width, 3), 77, np.uint8)
        cropped = model_input(image, size, "crop", "bicubic")
        assert cropped.shape == (*size, 3)
        assert (cropped == 77).all()


def test_bicubic_keeps_more_of_the_detail_than_bilinear():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    bilinear, bicubic = (
        model_input(noise, (16, 16), "stretch", kind).std() for kind in ("bilinear", "bicubic")
    )
    assert bicubic > 1.2 * bilinear


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("PNG", "RGB"), ("PNG", "L"), ("PNG", "RGBA"), ("PNG", "P"), ("BMP", "RGB"), ("JPEG", "CMYK")],
)
def test_other_kinds_of_images_are_read_as_rgb_from_a_file_or_bytes(tmp_path, kind, mode):
    data = encoded(photograph(), kind, mode)
    path = tmp_path / "image.any"
    path.write_bytes(data)
    image = load_rgb(path)
    assert (image.dtype, image.shape) == (np.uint8, (96, 160, 3))
    np.testing.assert_array_equal(load_rgb(data), image)
    np.testing.assert_array_equal(load_rgb(str(path)), image)


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "broken.png").write_bytes(encoded(photograph(), "PNG")[:80])
    for name, reason in [("broken.png", ""), ("absent.png", "No such file")]:
        with pytest.raises(UserError, match=rf"{name}: not a readable image \(.*{reason}"):
            load_rgb(tmp_path / name)


def test_a_photograph_that_was_taken_sideways_is_turned_only_when_asked():
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn the pixels clockwise
    image = photograph()
    data = encoded(image, "PNG", exif=exif)
    np.testing.assert_array_equal(load_rgb(data), image)
    np.testing.assert_array_equal(load_rgb(data, upright=True), np.rot90(image, -1))
    np.testing.assert_array_equal(
        load_rgb(PIL.Image.open(io.BytesIO(data)), upright=True), np.rot90(image, -1)
    )


def test_pixels_of_more_than_8_bits_are_refused_instead_of_made_white():
    deep = PIL.Image.fromarray(np.full((4, 4), 300, np.uint16))
    with pytest.raises(
        UserError, match=r"not a readable image \(its pixels are of PIL's mode I;16, expected 8"
    ):
        load_rgb(deep)


@pytest.mark.filterwarnings("ignore::UserWarning")  # PIL's, about what it skips in damaged files
@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "TIFF", "PPM"])
def test_damage_of_any_sort_is_one_sentence(kind):
    rng = np.random.default_rng(0)
    data = encoded(photograph(12, 16), kind)
    messages = []
    for _ in range(60):
        damaged = bytearray(data)
        for at in rng.integers(0, min(len(data), 120), 4):
            damaged[at] = rng.integers(0, 256)
        try:
            load_rgb(bytes(damaged))
        except UserError as error:
            messages.append(str(error))
    assert len(messages) > 10
    assert all(message.startswith("image: not a readable image (") for message in messages)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("least", [(0, 0), (30, 40)])
def test_a_view_of_a_jpeg_has_the_pixels_of_decoding_and_resizing(mirrored, least):
    rng = np.random.default_rng(0)
    coarse = PIL.Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8))
    file = io.BytesIO()
    coarse.resize((128, 96), PIL.Image.Resampling.BICUBIC).save(file, "JPEG")
    pixels = decode(file.getvalue(), min_size=least)
    height, width = pixels.shape[:2]
    part = 0.125, 0.0, 0.9, 0.75
    box = part[0] * width, part[1] * height, part[2] * width, part[3] * height
    for view, expected in (
        (part, resize(pixels, box, (20, 24), "bicubic")),
        ((0, 0, 1, 1), pixels),  # nothing to do, but perhaps to mirror
    ):
        out = np.empty_like(expected)
        decode_view(file.getvalue(), "image", least, view, mirrored, "bicubic", out)
        np.testing.assert_array_equal(out, expected[:, ::-1] if mirrored else expected)
