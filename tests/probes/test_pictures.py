"""Pictures as inputs: where they lie, how they are read, and what a transform makes of them."""

from __future__ import annotations

import base64
import io
import json
import os
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gate.errors import ProbeError
from gate.probes import folders, pictures
from gate.probes.probe_set import Columns, ProbeSet, Transform, open_probe
from tests.probes.test_views import batch, digest

PIXELS = np.random.default_rng(0).integers(0, 256, size=(4, 7, 5, 3), dtype=np.uint8)
NAMES = ["a/0.png", "a/1.png", "b/0.png", "b/1.png"]
LABELS = ["a", "a", "b", "b"]
WHOLE = Columns("file_name", label="label", id="file_name")
SMALL = Transform(resize=4, crop=(3, 4), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


def png(pixels: np.ndarray[Any, Any], **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, options.pop("format", "png"), **options)
    return file.getvalue()


def folder(path: Path, files: dict[str, bytes] | None = None) -> str:
    for name, content in (files or dict(zip(NAMES, map(png, PIXELS), strict=True))).items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return str(path)


def listed(path: Path, names: list[Any], ending: str = "csv") -> str:
    rows = [{"file_name": name, "label": str(name)[0]} for name in names]
    target = path / f"metadata.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), target)
    elif ending == "jsonl":
        target.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        target.write_text("file_name,label\n" + "".join(f"{row['file_name']},{row['label']}\n" for row in rows))
    return str(path)


def shown(probe: ProbeSet, size: int = 3) -> list[Any]:
    return [picture for each in probe.batches(size) for picture in cast("Any", each.inputs)]


def test_class_folders_give_pictures_labels_and_paths_in_sorted_order(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".DS_Store").write_bytes(b"")
    probe = open_probe(folder(tmp_path), columns=WHOLE)
    first = next(iter(probe.batches(3)))
    assert (first.ids, first.labels) == (tuple(NAMES[:3]), tuple(LABELS[:3]))
    np.testing.assert_array_equal(shown(probe), PIXELS)
    assert probe.rows == 4


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_table_of_metadata_gives_order_and_columns(tmp_path: Path, ending: str) -> None:
    folder(tmp_path)
    probe = open_probe(listed(tmp_path, NAMES[::-1], ending), columns=WHOLE)
    np.testing.assert_array_equal(shown(probe), PIXELS[::-1])
    assert next(iter(probe.batches(9))).ids == tuple(NAMES[::-1])


def test_pictures_without_classes_have_only_their_path(tmp_path: Path) -> None:
    uri = folder(tmp_path, {"1.PNG": png(PIXELS[1]), "0.png": png(PIXELS[0])})
    probe = open_probe(uri, columns=Columns("file_name", id="file_name"))
    np.testing.assert_array_equal(shown(probe), PIXELS[:2])
    with pytest.raises(ProbeError, match="there is no column 'label'"):
        open_probe(uri, columns=WHOLE)


def test_the_same_pictures_have_one_digest_in_a_folder_in_parquet_and_in_json(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    files = [png(each) for each in PIXELS]
    rest = {"label": LABELS, "id": NAMES}
    structs = [{"bytes": file, "path": name} for file, name in zip(files, NAMES, strict=True)]
    pq.write_table(pa.table({"image": structs, **rest}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"image": files, **rest}), tmp_path / "b.parquet")
    rows = [
        {"image": {"bytes": base64.b64encode(file).decode(), "path": name}, "label": label, "id": name}
        for file, name, label in zip(files, NAMES, LABELS, strict=True)
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = replace(WHOLE, input="image", id="id")
    found = {digest(str(tmp_path / name), columns=columns) for name in ("a.parquet", "b.parquet", "a.jsonl")}
    found.add(digest(folder(tmp_path / "pictures"), columns=WHOLE))
    found.add(digest(listed(tmp_path / "pictures", NAMES[::-1]), columns=WHOLE, size=3))
    assert len(found) == 1
    np.testing.assert_array_equal(shown(open_probe(str(tmp_path / "a.jsonl"), columns=columns)), PIXELS)
    one = replace(columns, id="image")
    assert next(iter(open_probe(str(tmp_path / "a.parquet"), columns=one).batches(4))).ids == tuple(NAMES)


def test_a_pixel_and_the_transform_change_the_digest(tmp_path: Path) -> None:
    changed = PIXELS.copy()
    changed[3, 6, 4, 2] ^= 1
    uri = folder(tmp_path / "a")
    other = folder(tmp_path / "b", dict(zip(NAMES, map(png, changed), strict=True)))
    transforms = [
        None,
        SMALL,
        replace(SMALL, resize=5),
        replace(SMALL, crop=3),
        replace(SMALL, mean=(0.5, 0.4, 0.2)),
        replace(SMALL, std=()),
        replace(SMALL, interpolation="bicubic"),
        replace(SMALL, scale=1.0),
        replace(SMALL, channels=1, mean=(), std=()),
    ]
    found = [digest(uri, columns=WHOLE, transform=each) for each in transforms]
    found.append(digest(other, columns=WHOLE))
    assert len(set(found)) == len(found)
    assert digest(uri, columns=WHOLE, transform=replace(SMALL, scale=255)) == found[1]


def test_a_digest_of_pictures_that_was_pinned_still_holds(tmp_path: Path) -> None:
    file = b"P6 2 1 255\n" + bytes(range(6))
    uri = folder(tmp_path, {"a/0.ppm": file})
    assert digest(uri, columns=WHOLE) == "sha256:db75ba8a12114057eedc9087611453431ddb7b508a4dfb8b7ab064451334f22a"
    assert (
        digest(uri, columns=WHOLE, transform=Transform(resize=(1, 1), mean=(0.5,) * 3))
        == "sha256:566243467b4210883b290b5b04ecbfa65fbfe6ae278660e2103e3d5a01775304"
    )


# What a transform computes.


def test_a_transform_resizes_crops_scales_and_standardises_in_this_order(tmp_path: Path) -> None:
    found = np.asarray(batch(folder(tmp_path), columns=WHOLE, transform=SMALL).inputs)
    assert found.shape == (4, 3, 3, 4)
    assert found.dtype == np.float32
    resized = np.stack([np.asarray(Image.fromarray(each).resize((4, 5), Image.Resampling.BILINEAR)) for each in PIXELS])
    expected = (resized[:, 1:4] / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.3, 0.4]
    np.testing.assert_allclose(found, expected.transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-6)


def test_the_shorter_side_is_what_is_resized_to(tmp_path: Path) -> None:
    tall, wide = np.zeros((11, 5, 3), np.uint8), np.zeros((5, 11, 3), np.uint8)
    for name, pixels, shape in (("tall", tall, (1, 3, 8, 4)), ("wide", wide, (1, 3, 4, 8))):
        uri = folder(tmp_path / name, {"0.png": png(pixels)})
        found = batch(uri, columns=Columns("file_name"), transform=Transform(resize=4)).inputs
        assert np.asarray(found).shape == shape


def test_grey_is_one_channel_and_halves_of_black_and_white_are_exact(tmp_path: Path) -> None:
    pixels = np.zeros((2, 4, 3), np.uint8)
    pixels[:, 2:] = 255
    uri = folder(tmp_path, {"0.png": png(pixels)})
    found = np.asarray(batch(uri, columns=Columns("file_name"), transform=Transform(channels=1)).inputs)
    np.testing.assert_array_equal(found, np.array([[[[0, 0, 1, 1]] * 2]], np.float32).reshape(1, 1, 2, 4))


@pytest.mark.parametrize("ending", ["npz", "jsonl", "parquet"])
def test_arrays_of_pixels_are_transformed_as_files_of_them_are(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    if ending == "npz":
        np.savez(path, x=PIXELS)
    elif ending == "jsonl":
        path.write_text("".join(json.dumps({"x": each.tolist()}) + "\n" for each in PIXELS))
    else:
        pq.write_table(pa.table({"x": PIXELS.reshape(4, -1).tolist()}), path)
    shape = (7, 5, 3) if ending == "parquet" else None
    found = batch(str(path), columns=Columns("x"), shape=shape, transform=SMALL)
    expected = batch(folder(tmp_path / "f"), columns=WHOLE, transform=SMALL)
    np.testing.assert_array_equal(np.asarray(found.inputs), np.asarray(expected.inputs))


def test_the_digest_of_transformed_arrays_depends_on_their_shape_and_not_on_their_format(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=PIXELS, y=PIXELS.reshape(4, 5, 7, 3))
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"x": each.tolist()}) + "\n" for each in PIXELS))
    transform = Transform(resize=(4, 4))
    first = digest(str(tmp_path / "a.npz"), columns=Columns("x"), transform=transform)
    assert digest(str(tmp_path / "a.jsonl"), columns=Columns("x"), transform=transform) == first
    assert digest(str(tmp_path / "a.npz"), columns=Columns("y"), transform=transform) != first


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones((2, 3, 3, 3)), r"has shape \(3, 3, 3\) and the type float64; probe\.transform expects pictures"),
        (np.ones((2, 9), np.uint8), r"has shape \(9,\) and the type uint8; probe\.transform expects pictures"),
        (np.ones((2, 3, 3, 4), np.uint8), r"has shape \(3, 3, 4\)"),
        (np.full((2, 3, 3), 256), "holds values from 256 to 256; probe.transform expects 0 to 255"),
    ],
)
def test_arrays_that_are_no_pictures_are_not_transformed(
    tmp_path: Path, values: np.ndarray[Any, Any], message: str
) -> None:
    np.savez(tmp_path / "a.npz", x=values)
    with pytest.raises(ProbeError, match=f"input 'x': .*{message}"):
        batch(str(tmp_path / "a.npz"), columns=Columns("x"), transform=Transform())


def test_a_picture_smaller_than_the_crop_or_of_another_size_is_refused_by_name(tmp_path: Path) -> None:
    uri = folder(tmp_path, {"a/0.png": png(PIXELS[0]), "a/1.png": png(PIXELS[1][:, :4])})
    with pytest.raises(ProbeError, match=r"of row 'a/0.png': is 7 x 5 before the crop to 6 x 6; add or enlarge"):
        batch(uri, columns=WHOLE, transform=Transform(crop=6))
    with pytest.raises(ProbeError, match=r"of row 'a/1.png': becomes \(3, 7, 4\) and the first row \(3, 7, 5\)"):
        batch(uri, columns=WHOLE, transform=Transform())
    probe = open_probe(uri, columns=WHOLE, transform=Transform())
    with pytest.raises(ProbeError, match=r"input of row 'a/1.png' has shape \(3, 7, 4\), that of the first row"):
        list(probe.batches(1))


def test_a_shape_of_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match=r"holds pictures, and probe\.shape is for rows of numbers"):
        batch(folder(tmp_path), columns=WHOLE, shape=(3,))


# Every kind of picture, the same on every machine.


def test_pictures_of_every_mode_become_three_channels(tmp_path: Path) -> None:
    grey = Image.fromarray(PIXELS[0][:, :, 0])
    colour = Image.fromarray(PIXELS[0])
    with_alpha = colour.copy()
    with_alpha.putalpha(grey)
    palette = colour.quantize(8, dither=Image.Dither.NONE)
    clear = palette.copy()
    clear.info["transparency"] = bytes(range(8))
    modes = {"grey": grey, "alpha": with_alpha, "palette": palette, "clear": clear, "one": grey.convert("1")}
    files: dict[str, bytes] = {}
    for name, picture in modes.items():
        file = io.BytesIO()
        picture.save(file, "png")
        files[f"{name}.png"] = file.getvalue()
    found = dict(
        zip(sorted(modes), shown(open_probe(folder(tmp_path, files), columns=Columns("file_name"))), strict=True)
    )
    np.testing.assert_array_equal(found["grey"], np.repeat(PIXELS[0][:, :, :1], 3, axis=2))
    np.testing.assert_array_equal(found["alpha"], PIXELS[0])
    np.testing.assert_array_equal(found["palette"], np.asarray(palette.convert("RGB")))
    np.testing.assert_array_equal(found["clear"], found["palette"])
    assert set(np.unique(found["one"])) <= {0, 255}


def test_a_picture_stands_as_its_orientation_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    uri = folder(tmp_path, {"0.png": png(PIXELS[0], exif=exif)})
    found = shown(open_probe(uri, columns=Columns("file_name")))[0]
    np.testing.assert_array_equal(found, np.rot90(PIXELS[0], -1))


FRAMES = [Image.fromarray(each) for each in PIXELS[:2]]


def moving() -> bytes:
    file = io.BytesIO()
    FRAMES[0].save(file, "gif", save_all=True, append_images=FRAMES[1:])
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (png(PIXELS[0])[:-30], "is no picture that can be read: .*; expected a whole file"),
        (png(PIXELS[0], format="jpeg")[:-300], "is no picture that can be read: .*runcated"),
        (b"GIF89a", "is no picture that can be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "is no picture that can be read: cannot identify image file"),
        (png(np.zeros((2, 2), np.uint16)), "is a picture of mode 'I;16', expected 8 bits a channel"),
        (moving(), "is a picture of 2 frames, expected one"),
    ],
)
def test_a_picture_that_is_damaged_or_of_another_kind_is_refused_by_name(
    tmp_path: Path, content: bytes, message: str
) -> None:
    uri = folder(tmp_path, {"a/0.png": png(PIXELS[0]), "a/1.png": content})
    with pytest.raises(ProbeError, match=f"input 'file_name' of row 'a/1.png': {message}"):
        batch(uri, columns=WHOLE)


@pytest.mark.parametrize(("side", "message"), [(9000, "is a picture of 9000 x 9000 pixels"), (20000, "of too many")])
def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(
    tmp_path: Path, side: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = png(np.zeros((1, 1), np.uint8))
    ihdr = header.index(b"IHDR")
    fields = struct.pack(">II", side, side) + header[ihdr + 12 : ihdr + 17]
    bomb = header[: ihdr + 4] + fields + struct.pack(">I", zlib.crc32(b"IHDR" + fields)) + header[ihdr + 21 :]
    with pytest.raises(ProbeError, match=message):
        batch(folder(tmp_path, {"a/0.png": bomb}), columns=WHOLE)
    monkeypatch.setattr(pictures, "MOST_PIXELS", 30)
    with pytest.raises(ProbeError, match="is a picture of 5 x 7 pixels, expected at most 30 in all"):
        batch(folder(tmp_path, {"a/0.png": png(PIXELS[0])}), columns=WHOLE)


# Columns of pictures with faults.


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([png(PIXELS[0]), None], "input 'x': is missing in row '1', or names a file that it does not hold"),
        ([png(PIXELS[0]), b""], "input 'x': is missing in row '1'"),
        ([{"bytes": None, "path": "a.png"}], "input 'x': is missing in row '0', or names a file that it does not hold"),
        ([{"bytes": "no base64", "path": "a.png"}], "input 'x': `bytes` of row '0' is no base64"),
    ],
)
def test_a_picture_that_a_column_does_not_hold_is_refused(tmp_path: Path, values: list[Any], message: str) -> None:
    pq.write_table(pa.table({"x": values}), tmp_path / "a.parquet")
    with pytest.raises(ProbeError, match=message):
        batch(str(tmp_path / "a.parquet"), columns=Columns("x"))


# Hostile folders.


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../secret.png", "file_name '../secret.png' leads out of the folder"),
        ("a/../../secret.png", "leads out of the folder"),
        ("ROOT/secret.png", "leads out of the folder"),
        ("a\\\\..\\\\secret.png", "leads out of the folder"),
        ("memory://secret.png", "leads out of the folder"),
        ("link.png", "file_name 'link.png' is a link out of the folder"),
        ("out/secret.png", "file_name 'out/secret.png' is a link out of the folder"),
        ("nowhere.png", "file_name 'nowhere.png' is not there, or no file"),
        ("a", "file_name 'a' is not there, or no file"),
        ("pipe.png", "file_name 'pipe.png' is not there, or no file"),
        (None, "a row has no file_name"),
    ],
)
def test_a_path_out_of_the_folder_is_refused(tmp_path: Path, name: str | None, message: str) -> None:
    (tmp_path / "secret.png").write_bytes(png(PIXELS[0]))
    inside = tmp_path / "pictures"
    folder(inside)
    (inside / "link.png").symlink_to(tmp_path / "secret.png")
    (inside / "out").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(inside / "pipe.png")
    path = None if name is None else name.replace("ROOT", str(tmp_path))
    with pytest.raises(ProbeError, match=message):
        batch(listed(inside, [path], "jsonl"), columns=Columns("file_name"))


def test_a_link_within_the_folder_is_followed(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "same.png").symlink_to(tmp_path / "a" / "1.png")
    found = shown(open_probe(listed(tmp_path, ["same.png"]), columns=Columns("file_name")))
    np.testing.assert_array_equal(found[0], PIXELS[1])


def test_a_class_folder_that_is_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder(tmp_path / "secret")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a").symlink_to(tmp_path / "secret" / "a", target_is_directory=True)
    with pytest.raises(ProbeError, match="is a link out of the folder"):
        batch(str(tmp_path / "pictures"), columns=WHOLE)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a/0.png": b"", "1.png": b""}, "holds '1.png' beside the class folder 'a'"),
        ({"a/0.png": b"", "a/b/1.png": b""}, "a/b: is a folder, expected only pictures there"),
        ({"a/0.png": b"", "a/notes.txt": b""}, "a/notes.txt: is no picture by its name, expected only pictures there"),
        ({"part-0.parquet": b""}, "part-0.parquet: is no picture by its name"),
        (
            {"metadata.csv": b"path\n", "metadata.jsonl": b"{}\n"},
            "holds metadata.csv and metadata.jsonl, so that either",
        ),
        ({"metadata.csv": b"path\na.png\n"}, "metadata.csv: has no column 'file_name'"),
        ({".hidden": b""}, "is an empty folder, expected pictures"),
    ],
)
def test_a_folder_that_is_no_set_of_pictures_is_refused(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    with pytest.raises(ProbeError, match=message):
        list(open_probe(folder(tmp_path, files), columns=Columns("file_name")).batches(9))


def test_a_file_that_is_too_large_for_a_picture_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_MOST_BYTES", 20)
    with pytest.raises(ProbeError, match=r"a/0\.png: is larger than 20 bytes"):
        batch(folder(tmp_path), columns=WHOLE)


def test_a_folder_is_listed_and_its_pictures_read_only_as_they_are_needed(tmp_path: Path) -> None:
    uri = folder(tmp_path)
    (tmp_path / "b" / "1.png").write_bytes(b"no picture")
    batches = open_probe(uri, columns=WHOLE).batches(3)
    assert len(next(batches).ids) == 3
    with pytest.raises(ProbeError, match=r"'b/1\.png': is no picture"):
        next(batches)
