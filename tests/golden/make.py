"""Made the folders beside it: tiny random models as Hugging Face writes them, and what Hugging Face computes with them.

    python tests/golden/make.py

It needs the extra `parity` and the asset all-MiniLM-L6-v2. Each folder holds a checkpoint and `expected.npz`, the
inputs and the outputs; `all-MiniLM-L6-v2.npz` holds a few numbers of the real model.
"""

import json
import pathlib

import numpy as np
import tokenizers
import torch
import transformers
from safetensors.torch import load_file, save_file

from course_lib import ChatTokenizer, assets

HERE = pathlib.Path(__file__).parent
VOCABULARY = """[PAD] [UNK] [CLS] [SEP] [MASK] the a my his dog cat bird river moon stone is was sits sings sleeps
    cute old and under on , . ! ? ##s ##ing ##er 狗 猫 é ü Dog Paris un ##seen""".split()
TEXTS = ["The dogs sit under my moon!", "a bird sings, unseen.", "[MASK] cat 狗 É"]
PAIRS = ["His old stone is cute.", "Dog?", "the river was Paris and the old dogs sleeping on stone"]
LABELS = ["cold", "warm", "wet"]
SIZES = {
    "vocab_size": len(VOCABULARY),
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "hidden_size": 8,
    "intermediate_size": 12,
    "max_position_embeddings": 32,
}


ROBERTA_TEXTS = ["The dogs sit under my moon!", "a bird <mask>, unseen.", "naïve 狗 ☕<mask> cat"]
GPT_TEXTS = ["The cat sat on my mat, didn't it?", "a dog", "naïve 狗 ☕<|endoftext|>Once"]
GPT_SIZES = {"n_layer": 2, "n_head": 2, "n_embd": 8, "n_positions": 40}
LLAMA_TEXTS = ["The cat sat on my mat in 2024, didn't it?", "a dog", "naïve 狗 ☕ 12<|im_end|>\nOnce"]
LLAMA_SIZES = {
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 16,
    "intermediate_size": 20,
    "max_position_embeddings": 64,
}
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SMOLLM_PROMPTS = [
    "The capital of Norway is",
    "Once upon a time, there was a",
    "In 2024, the price rose from 17 to 35 dollars, which is",
    "def fibonacci(n):\n",
    "<|im_start|>user\nWhat is gravity?<|im_end|>\n<|im_start|>assistant\n",
    "Roses are red, violets are",
    "Q: How many legs does a spider have?\nA:",
    "The film was dull from beginning to end, and",
    "To boil an egg, first",
    "naïve café 狗",
]
OPENAI_TEXTS = ["The cat sat on my mat, didn't it?", "a dog", "Naïve 狗 <unk>☕ oncé"]


def main():
    save("bert", transformers.BertModel)
    save("bert-without-pooler", transformers.BertModel, {"add_pooling_layer": False}, hidden_act="relu")
    masked_lm = {"hidden_act": "gelu_new", "type_vocab_size": 3, "layer_norm_eps": 0.05, "num_attention_heads": 4}
    save("masked-lm-in-shards", transformers.BertForMaskedLM, **masked_lm, shard_size="3KB")
    save("masked-lm-untied", transformers.BertForMaskedLM, tie_word_embeddings=False, hidden_act="quick_gelu")
    save("pretraining", transformers.BertForPreTraining, tokenizer={"do_lower_case": False}, hidden_size=12)
    as_in_2019(save("pretraining-in-old-names", transformers.BertForPreTraining, hidden_act="silu"))
    save_classifier("classifier-of-texts", transformers.BertForSequenceClassification, classifier_dropout=0.2)
    save_classifier("classifier-of-tokens", transformers.BertForTokenClassification)
    save_roberta("roberta", transformers.RobertaModel, type_vocab_size=2)
    save_roberta("roberta-masked-lm", transformers.RobertaForMaskedLM)
    save_roberta("roberta-classifier-of-texts", transformers.RobertaForSequenceClassification)
    save_roberta("roberta-classifier-of-tokens", transformers.RobertaForTokenClassification)
    save_gpt2("gpt2", transformers.GPT2Model, n_inner=12)
    as_openai_published(save_gpt2("gpt2-as-published", transformers.GPT2Model))
    scales = {"scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True}
    odd = {"n_layer": 3, "n_head": 4, "activation_function": "relu", "layer_norm_epsilon": 0.05, **scales}
    save_gpt2("gpt2-causal-lm", transformers.GPT2LMHeadModel, **odd)
    wider = {"n_embd": 16, "n_head": 4, "layer_norm_epsilon": 0.05}  # so that greedy search does not repeat one token
    save_openai_gpt("openai-gpt", transformers.OpenAIGPTLMHeadModel, **wider)
    save_llama("llama", transformers.LlamaModel, num_key_value_heads=1, rms_norm_eps=0.05, hidden_act="gelu")
    tied = {"tie_word_embeddings": True, "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 100.0}}
    save_llama("llama-tied-in-shards", transformers.LlamaForCausalLM, shard_size="3KB", **tied)
    llama3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
    save_llama(
        "llama-causal-lm",
        transformers.LlamaForCausalLM,
        head_dim=6,
        rope_parameters={"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0} | llama3,
    )
    real()
    smollm()


def save(name, model_class, arguments=None, tokenizer=None, shard_size="1GB", **config):
    """Writes a model with random weights, so large that every part of it matters, with its tokenizer and outputs."""
    torch.manual_seed(sum(name.encode()))
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    config = transformers.BertConfig(**SIZES | config, attn_implementation="eager")
    model = model_class(config, **arguments or {}).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.5)
    model.save_pretrained(folder, max_shard_size=shard_size)
    tokenizer = transformers.BertTokenizer(vocab={token: i for i, token in enumerate(VOCABULARY)}, **tokenizer or {})
    tokenizer.save_pretrained(folder)

    inputs = tokenizer(TEXTS, PAIRS, padding=True, return_tensors="pt")
    if config.type_vocab_size > 2:
        inputs["token_type_ids"] += inputs["attention_mask"]
    with torch.no_grad():
        outputs = model(**inputs, output_hidden_states=True, output_attentions=True)
    expected = {
        "token_ids": inputs["input_ids"],
        "segment_ids": inputs["token_type_ids"],
        "padding_mask": inputs["attention_mask"],
        "sequence_output": outputs.hidden_states[-1],
        "hidden_states": torch.stack(outputs.hidden_states),
        "attention": torch.stack(outputs.attentions),
        "pooled_output": outputs.get("pooler_output"),
        "mlm_logits": outputs.get("prediction_logits", outputs.get("logits")),
        "nsp_logits": outputs.get("seq_relationship_logits"),
    }
    expected = {key: value.numpy() for key, value in expected.items() if value is not None}
    np.savez_compressed(folder / "expected.npz", **{key: compact(value) for key, value in expected.items()})
    return folder


def save_classifier(name, model_class, **config):
    """The same for a classifier with three labels; of its outputs, the logits."""
    torch.manual_seed(sum(name.encode()))
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    names = {"id2label": dict(enumerate(LABELS)), "label2id": {label: index for index, label in enumerate(LABELS)}}
    model = model_class(transformers.BertConfig(**SIZES | names | config)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.5)
    model.save_pretrained(folder)
    tokenizer = transformers.BertTokenizer(vocab={token: i for i, token in enumerate(VOCABULARY)})
    tokenizer.save_pretrained(folder)
    inputs = tokenizer(TEXTS, PAIRS, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits
    names = {"token_ids": "input_ids", "segment_ids": "token_type_ids", "padding_mask": "attention_mask"}
    expected = {ours: inputs[theirs] for ours, theirs in names.items()} | {"logits": logits}
    np.savez_compressed(folder / "expected.npz", **{key: compact(value.numpy()) for key, value in expected.items()})


def save_roberta(name, model_class, **config):
    """The same for RoBERTa. Of the scores of masked tokens, those of every eighth token are kept."""
    torch.manual_seed(sum(name.encode()))
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=280, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    bpe.train_from_iterator([*ROBERTA_TEXTS, *PAIRS], trainer)
    learned = json.loads(bpe.to_str())["model"]
    vocabulary = learned["vocab"] | {"<mask>": len(learned["vocab"])}
    mask = transformers.AddedToken("<mask>", lstrip=True, special=True)
    merges = [tuple(merge) for merge in learned["merges"]]
    tokenizer = transformers.RobertaTokenizer(vocab=vocabulary, merges=merges, mask_token=mask)
    tokenizer.save_pretrained(folder)
    names = {"id2label": dict(enumerate(LABELS)), "label2id": {label: index for index, label in enumerate(LABELS)}}
    sizes = SIZES | {"vocab_size": len(vocabulary), "max_position_embeddings": 80, "type_vocab_size": 1}
    sizes |= {"layer_norm_eps": 1e-5} | (names if "classifier" in name else {})
    model = model_class(transformers.RobertaConfig(**sizes | config, attn_implementation="eager")).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.5)
    model.save_pretrained(folder)
    inputs = tokenizer(ROBERTA_TEXTS, PAIRS, padding=True, return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs, output_hidden_states=True)
    logits = outputs.get("logits")
    expected = {
        "token_ids": inputs["input_ids"],
        "padding_mask": inputs["attention_mask"],
        "hidden_states": torch.stack(outputs.hidden_states),
        "pooled_output": outputs.get("pooler_output"),
        "logits": logits[..., ::8] if name == "roberta-masked-lm" else logits,
    }
    expected = {key: compact(value.numpy()) for key, value in expected.items() if value is not None}
    np.savez_compressed(folder / "expected.npz", **expected)


def save_gpt2(name, model_class, **config):
    """The same for GPT-2."""
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=270, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator([*TEXTS, *PAIRS, *GPT_TEXTS], trainer)
    learned = json.loads(bpe.to_str())["model"]
    vocabulary = learned["vocab"] | {"<|endoftext|>": len(learned["vocab"])}
    tokenizer = transformers.GPT2Tokenizer(vocab=vocabulary, merges=[tuple(merge) for merge in learned["merges"]])
    end = vocabulary["<|endoftext|>"]
    special = {"vocab_size": len(vocabulary), "bos_token_id": end, "eos_token_id": end}
    config = transformers.GPT2Config(**GPT_SIZES | special | config, attn_implementation="eager")
    return save_decoder(name, model_class, transformers.GPT2LMHeadModel, config, tokenizer, "<|endoftext|>", GPT_TEXTS)


def save_llama(name, model_class, shard_size="1GB", **config):
    """The same for Llama, with a tokenizer as SmolLM2 has it."""
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    digits = tokenizers.pre_tokenizers.Digits(individual_digits=True)
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [digits, tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=280, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    bpe.train_from_iterator([*TEXTS, *PAIRS, *LLAMA_TEXTS], trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    sizes = LLAMA_SIZES | {"vocab_size": bpe.get_vocab_size(), "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    config = transformers.LlamaConfig(**sizes | config, attn_implementation="eager")
    return save_decoder(
        name, model_class, transformers.LlamaForCausalLM, config, tokenizer, "<|im_end|>", LLAMA_TEXTS, 0.0, shard_size
    )


def save_openai_gpt(name, model_class, **config):
    """The same for the first GPT."""
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    bpe.normalizer = tokenizers.normalizers.BertNormalizer()
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=90, special_tokens=["<unk>"], end_of_word_suffix="</w>", show_progress=False
    )
    bpe.train_from_iterator([*TEXTS, *PAIRS], trainer)
    learned = json.loads(bpe.to_str())["model"]
    tokenizer = transformers.OpenAIGPTTokenizer(
        vocab=learned["vocab"], merges=[tuple(merge) for merge in learned["merges"]]
    )
    config = transformers.OpenAIGPTConfig(**GPT_SIZES | {"vocab_size": len(learned["vocab"])} | config)
    return save_decoder(
        name, model_class, transformers.OpenAIGPTLMHeadModel, config, tokenizer, "<unk>", OPENAI_TEXTS, bias=0.0
    )


def save_decoder(name, model_class, whole_class, config, tokenizer, padding, texts, bias=1.0, shard_size="1GB"):
    """Of the logits, those of every eighth token are kept; and what greedy search adds to the first text."""
    torch.manual_seed(sum(name.encode()))
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    tokenizer.save_pretrained(folder)
    model = model_class(config).eval()
    for path, parameter in model.named_parameters():
        mean = 0.0 if parameter.ndim > 1 else bias if path.endswith("bias") else 1.0
        torch.nn.init.normal_(parameter, mean=mean, std=0.4)
    model.save_pretrained(folder, max_shard_size=shard_size)

    tokenizer.pad_token = padding
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    first = tokenizer(texts[0], return_tensors="pt")
    whole = model
    if model_class is not whole_class:
        whole = whole_class(config).eval()
        base = whole.base_model_prefix
        getattr(whole, base).load_state_dict(getattr(model, base, model).state_dict())
    with torch.no_grad():
        outputs = model(**inputs, output_hidden_states=True, output_attentions=True)
        logits = whole(**inputs).logits
        greedy = whole.generate(**first, max_new_tokens=8, do_sample=False, pad_token_id=tokenizer.pad_token_id)
    expected = {
        "token_ids": inputs["input_ids"],
        "padding_mask": inputs["attention_mask"],
        "sequence_output": outputs.hidden_states[-1],
        "hidden_states": torch.stack(outputs.hidden_states[:-1]),
        "attention": torch.stack(outputs.attentions),
        "logits": logits[..., ::8],
        "greedy": greedy[0, first["input_ids"].shape[1] :],
    }
    np.savez_compressed(folder / "expected.npz", **{key: compact(value.numpy()) for key, value in expected.items()})
    return folder


def as_openai_published(folder):
    """Writes tensors, config and vocabulary as they lie in the hub's openai-community/gpt2."""
    tensors = load_file(folder / "model.safetensors")
    positions = GPT_SIZES["n_positions"]
    for layer in range(GPT_SIZES["n_layer"]):
        tensors[f"h.{layer}.attn.bias"] = torch.tril(torch.ones(positions, positions))[None, None]
        tensors[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    newer = {
        "add_cross_attention",
        "dtype",
        "n_inner",
        "pad_token_id",
        "reorder_and_upcast_attn",
        "tie_word_embeddings",
    }
    newer |= {"scale_attn_by_inverse_layer_idx", "scale_attn_weights", "transformers_version", "use_cache"}
    config = {name: value for name, value in config.items() if name not in newer}
    config |= {"architectures": ["GPT2LMHeadModel"], "n_ctx": positions}
    config["task_specific_params"] = {"text-generation": {"do_sample": True, "max_length": 50}}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False), encoding="utf-8")
    merges = "".join(f"{first} {second}\n" for first, second in model["merges"])
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}", encoding="utf-8")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()


def compact(array):
    return array.astype("int32" if array.dtype.kind == "i" else "float32")


def as_in_2019(folder):
    """Renames and adds tensors as the first checkpoints had them, and writes the vocabulary as a list."""
    tensors = load_file(folder / "model.safetensors")
    tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"].clone()
    tensors["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"].clone()
    tensors["bert.embeddings.position_ids"] = torch.arange(SIZES["max_position_embeddings"])[None]
    for new, old in (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")):
        tensors = {name.replace(new, old): tensor for name, tensor in tensors.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in VOCABULARY), encoding="utf-8")
    (folder / "tokenizer.json").unlink()


def real():
    """The first and last numbers of a few positions of all-MiniLM-L6-v2."""
    folder = assets.fetch("all-MiniLM-L6-v2")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    inputs = tokenizer("Hello, my dog is cute", return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs, output_attentions=True)
    np.savez_compressed(
        HERE / "all-MiniLM-L6-v2.npz",
        token_ids=compact(inputs["input_ids"].numpy()),
        sequence_output=outputs.last_hidden_state[0, :, ::48].numpy(),
        pooled_output=outputs.pooler_output[0, ::48].numpy(),
        attention=torch.stack(outputs.attentions)[:, 0, ::4, 0].numpy(),
    )


def smollm():
    """Of SmolLM2-135M-Instruct, read from its GGUF file: a few logits after each of ten prompts, and greedy search.

    The ids are ours: `transformers` does not split digits when it reads this file.
    """
    folder = assets.fetch("smollm2-135m-instruct")
    (path,) = folder.glob("*.gguf")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=path.name, dtype=torch.float32).eval()
    tokenizer = ChatTokenizer.from_preset(folder)
    found = {}
    for index, prompt in enumerate(SMOLLM_PROMPTS):
        ids = torch.tensor([tokenizer.encode(prompt)])
        with torch.no_grad():
            logits = model(ids).logits[0, -1]
            greedy = model.generate(ids, max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=2)
        found |= {
            f"ids_{index}": ids[0],
            f"logits_{index}": logits[::512],
            f"greedy_{index}": greedy[0, ids.shape[1] :],
        }
    path = HERE / "smollm2-135m-instruct.npz"
    np.savez_compressed(path, **{key: compact(value.numpy()) for key, value in found.items()})


if __name__ == "__main__":
    main()
