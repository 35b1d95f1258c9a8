import subprocess
import sys
import tarfile

import pytest

from sentinelctl.images import IMAGES, Built, built


def names(image: Built) -> set[str]:
    return {name for name, _ in image.files}


def requirements(image: Built) -> str:
    return dict(image.files)["requirements.txt"].decode()


def test_an_image_is_named_by_all_that_goes_into_it() -> None:
    assert built("services", "base:1").reference == built("services", "base:1").reference
    assert built("services", "base:1").reference != built("services", "base:2").reference
    assert built("services", "base:1").reference.startswith("sentinel-services:")


@pytest.mark.parametrize("name", IMAGES)
def test_the_context_is_an_archive_of_its_files(name: str) -> None:
    image = built(name, "base:1")
    with tarfile.open(fileobj=image.context()) as archive:
        assert set(archive.getnames()) == names(image) >= {"Dockerfile", "requirements.txt", "probe.py"}


def test_the_python_roles_carry_no_model() -> None:
    image = built("services", "base:1")
    assert "app/services/webhook/__main__.py" in names(image)
    assert "app/sentinel/v1/events_pb2.py" in names(image)
    assert "app/model/inputs/diff.py" in names(image)
    assert not {name for name in names(image) if "weights" in name or name == "app/model/engine.py"}
    assert "onnxruntime" not in requirements(image)


def test_the_inference_image_carries_the_served_weights_and_nothing_of_training() -> None:
    image = built("inference", "base:1")
    assert "app/model/weights/encoder.int8.onnx" in names(image)
    assert not {name for name in names(image) if "train" in name or name.endswith((".safetensors", "encoder.py"))}
    assert "onnxruntime" in requirements(image)


def test_the_autoscalers_image_holds_what_it_imports_and_nothing_that_reads_what_strangers_send() -> None:
    image = built("autoscaler", "base:1")
    look = "import sys, services.autoscaler.__main__, services.autoscaler.containers, services.stream.kafka\n"
    look += "print(*(name for name in sys.modules if name.startswith('services.')))"
    run = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    for module in run.stdout.split():
        path = f"app/{module.replace('.', '/')}"
        assert {f"{path}.py", f"{path}/__init__.py"} & names(image), f"it imports {module}"
    assert not {name for name in names(image) if name.startswith(("app/services/webhook", "app/model", "app/sentinel"))}


@pytest.mark.parametrize("name", IMAGES)
def test_torch_is_in_no_image_unless_it_was_asked_for(name: str) -> None:
    assert "torch" not in requirements(built(name, "base:1"))
    assert "torch>=" in requirements(built(name, "base:1", "torch"))


@pytest.mark.parametrize("name", IMAGES)
def test_no_cache_nor_anything_of_this_machine_gets_in(name: str) -> None:
    assert not {path for path in names(built(name, "base:1")) if "__pycache__" in path or path.startswith("/")}


@pytest.mark.parametrize("name", IMAGES)
def test_the_final_stage_has_no_rights_and_no_build_tools(name: str) -> None:
    final = IMAGES[name].dockerfile.read_text(encoding="utf-8").rpartition("FROM")[2]
    assert "USER 10001:10001" in final
    assert "RUN" not in final
