"""Streams that were made once, on another machine, decode to the same bytes for ever, however this one computes."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).parent / "golden" / "codec-1"
SETTINGS = [
    {"OMP_NUM_THREADS": "1"},
    {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"},
    {"OPENBLAS_CORETYPE": "Prescott", "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3"},
    {"OPENBLAS_CORETYPE": "Haswell"},
    {"OPENBLAS_CORETYPE": "SkylakeX"},
    {"OPENBLAS_CORETYPE": "Zen"},
    {"OPENBLAS_CORETYPE": "Nehalem"},
    {"OPENBLAS_CORETYPE": "Sandybridge", "OPENBLAS_NUM_THREADS": "1"},
    {"NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX"},
    {"MALLOC_PERTURB_": "165"},
]
DECODE = """
import hashlib, json, sys, warnings
from pathlib import Path
import numpy as np
import latente as lt
warnings.simplefilter("ignore")  # a processor may lack what it is told to leave out
found = {}
for stream in sorted(Path(sys.argv[1]).glob("*.ltz")):
    back = lt.decompress(stream, model=stream.with_name(stream.stem.split("-")[0] + ".safetensors"))
    back = back if isinstance(back, np.ndarray) else back.select_dtypes("number").to_numpy(np.float64)
    found[stream.stem] = hashlib.sha256(np.ascontiguousarray(back).tobytes()).hexdigest()
assert "torch" not in sys.modules
print(json.dumps(found))
"""


@pytest.mark.parametrize(
    "setting", [pytest.param(s, marks=[pytest.mark.slow] if i > 2 else []) for i, s in enumerate(SETTINGS)], ids=str
)
def test_golden_streams_decode_to_the_same_bytes_in_every_setting(setting):
    done = subprocess.run(
        [sys.executable, "-c", DECODE, str(GOLDEN)], capture_output=True, env=os.environ | setting, check=True
    )
    expected = json.loads((GOLDEN / "digests.json").read_text())
    assert json.loads(done.stdout) == {k: v for k, v in expected.items() if k != "drawings-latents"}
    assert len(expected) == 9


def test_a_golden_two_part_code_decodes_to_its_pictures():
    from latente import file
    from latente.codec.coder import Coder
    from latente.uses.streams import _restored

    document, data = file.read(GOLDEN / "drawings.safetensors")
    coder = _restored(document, data, "golden")
    assert isinstance(coder, Coder)
    found = coder.pictures.latents.decode(memoryview((GOLDEN / "drawings-latents.bin").read_bytes()), 40)
    expected = json.loads((GOLDEN / "digests.json").read_text())["drawings-latents"]
    assert hashlib.sha256(np.ascontiguousarray(found).tobytes()).hexdigest() == expected
