"""Templates that are no assistants': guards, reward models, retrievers, user simulators, told by what they write.

They are judged like all others; the shares are shown with and without them.
"""

from __future__ import annotations

import re

from served_rows import KINDS
from served_scene import Scene, find, forms, unprinted
from served_text import MODEL, asks_for_others, prompt_tail, words_behind
from transformers import PreTrainedTokenizerFast

PLAIN = KINDS["plain"]
MANY = 6
# What behaviour does not tell.
NAMED = {
    "BAAI-BGE-VL-MLLM-S1": "embeds texts and images: its prompt asks for nobody",
    "BAAI-BGE-VL-v1.5-mmeb": "embeds texts and images: its prompt asks for nobody",
    "bezzam-VibeVoice-7B-hf": "speaks: its turns are speech, not text",
    "inclusionAI-SingGuard-2b": "quotes the conversation in one message, for a verdict",
    "kakaocorp-kanana-safeguard-8b": "quotes the conversation in one message, for a verdict",
    "kakaocorp-kanana-safeguard-prompt-2.1b": "quotes the conversation in one message, for a verdict",
    "kakaocorp-kanana-safeguard-siren-8b": "quotes the conversation in one message, for a verdict",
}


def purpose(name: str, template: str, tokenizer: PreTrainedTokenizerFast) -> str:
    """What a template is for, if it is no assistant's; empty for all others."""
    if name in NAMED:
        return NAMED[name]
    scenes = [scene for scene in forms(tokenizer, template, PLAIN.messages, None, {}) if scene.text is not None]
    scene = min(scenes, key=lambda each: len(unprinted(each, [0, 1])), default=None)
    return _behaviour(scene) if scene is not None else ""


def _behaviour(scene: Scene) -> str:
    text, asked, eos = scene.text or "", scene.prompt(1), scene.tokenizer.eos_token
    answer = find(text, PLAIN.messages[1]["content"])
    if asked is None or answer is None:
        return ""
    tail = prompt_tail(scene, 1)
    behind = text[answer[1] :].removesuffix(tail)
    if len(words_behind(behind, eos)) >= MANY:
        return "asks for a verdict on the answer, behind it"
    if text.startswith(asked[0]):
        header = re.search(MODEL, text[len(asked[0]) : answer[0]], re.IGNORECASE)
        return "its prompt asks for nobody: the answer has a header of its own" if header else ""
    others = next(asks_for_others(tail, eos), "")
    return others.removeprefix("asked: ").split(":")[0].replace("the prompt", "its prompt")
