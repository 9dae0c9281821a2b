"""Keys of axolotl, LLaMA-Factory, TRL and transformers that are none of ours: the trainer's, and the refused ones.

Source: the schemas of axolotl 0.19 (`utils/schemas`), LLaMA-Factory 0.9.5 (`hparams`), TRL 1.16 and transformers 5.23
(`TrainingArguments`); names only.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["HARMLESS", "REFUSED", "is_trainers"]

_PREFIXES = (
    "accelerat", "activation_", "adam_", "apollo_", "attn_", "badam_", "bnb_", "comet_", "context_parallel", "cpo_",
    "dataloader_", "ddp", "deepspeed", "dion_", "do_", "dpo_", "eaft_", "early_stopping", "eval_", "evals_", "export_",
    "flash_", "flex_", "fp16_", "freeze_", "fsdp", "galore_", "gc_", "generation_", "gptq", "gradient_", "grpo_",
    "hub_", "image_", "infer_", "jagged_restart_", "kto_", "liger_", "lisa_", "llm_int8", "log_", "logging_", "lora_",
    "loraplus", "loss_watchdog_", "lr_", "mlflow_", "model_kwargs", "muon", "neftune", "offload", "oft_", "optim",
    "orpo_", "overrides_of_model", "parallelism", "peft_", "per_device_", "pissa_", "pose_", "ppo_", "pref_",
    "profiler_", "push_to_hub", "qgalore", "quantiz", "ray_", "ref_model", "relora", "report_to", "reward_", "ring_",
    "rope_", "sample_packing_", "save_", "saves_", "scaling_softmax", "sequence_parallel", "sglang_", "simpo",
    "swanlab_", "tensor_parallel", "tiled_mlp", "torch_", "trackio_", "unsloth_", "use_", "video_", "vllm", "wandb_",
    "warmup_",
)  # fmt: skip
_TEXT = """
adapter adapter_folder adapter_name_or_path additional_target advantage_estimator asft_alpha audio_sampling_rate
auto_find_batch_size auto_resume_from_checkpoints axolotl_config_path base_model_config batch_flattening batch_size
bench_dataset bench_split bf16 bf16_full_eval bfloat16 block_diag_attn buffer_size cache_dir
center_rewards_coefficient chunked_cross_entropy chunked_cross_entropy_num_chunks cls_model_config compute_accuracy
compute_dtype cosine_constant_lr_ratio cosine_min_lr_ratio create_new_adapter crop_to_patches curriculum_sampling
data_seed data_shared_file_system dataset_keep_in_memory debug deepcompile device device_map
disable_gradient_checkpointing disable_shuffling disable_tqdm double_quantization download_mode dp_replicate_size
dp_shard_size dynamic_checkpoint eager_attention ebft embedding_lr embedding_lr_scale embeddings_skip_upcast
enable_liger_kernel enable_torch_profiler evaluation_strategy experimental_skip_move_to_device experts_implementation
finetuning_type fix_untrained_tokens float16 float32 fp16 fp32_norm_classes fp32_norms fp8 fp8_backend fp8_config
fp8_enable_fsdp_float8_all_gather full_determinism fused_attn_kernel gemma4_hybrid_attn_impl generate_samples
gpu_memory_limit gradio_max_new_tokens gradio_server_name gradio_server_port gradio_share gradio_temperature
gradio_title greater_is_better group_by_length heads_k_stride hf_hub_token hf_mlflow_log_artifacts hf_use_auth_token
hyper_parallel_args ignore_data_skip ignore_pad_token_for_loss include_effective_tokens_per_second
include_num_input_tokens_seen include_tkps include_tokens_per_second init_special_tokens is_falcon_derived_model
is_llama_derived_model is_mistral_derived_model is_preprocess is_qwen_derived_model kt_weight_path label_names
label_smoothing_factor large_head_attention layer_offloading ld_alpha learning_rate length_penalty
llama4_linearized_experts load_best_model_at_end load_in_4bit load_in_8bit local_rank loftq_bits loftq_config
loss_type low_cpu_mem_usage master_addr master_port max_grad_norm max_memory max_new_tokens max_prompt_len max_steps
mean_resizing_embeddings media_dir merge_lora metric_for_best_model micro_batch_size mixture_of_depths
model_quantization_config model_quantization_config_kwargs model_type module_dropout moe_aux_loss_coef ms_hub_token
multipack_real_batches noisy_embedding_alpha num_beams num_dataset_shards_to_save num_epochs num_generation_samples
num_labels num_train_epochs om_hub_token otel_metrics_host otel_metrics_port output_dir overwrite_cache
overwrite_output_dir packing_strategy pad_to_multiple_of pad_to_sequence_len padding_free peft ple_cpu_offload
plot_loss plugins precompute_ref_log_probs predict_with_generate preprocess_shards preprocessing_batch_size
print_param_status processor_kwargs processor_type profile_modules pure_bf16 qat qlora_sharded_model_loading
quantization_bit recompute_layer_types reinit_weights remove_unused_columns repetition_penalty
resize_token_embeddings_to_32x resize_vocab resources_per_worker resume_from_checkpoint rl_beta router_aux_loss_coef
rpo_alpha run_name s2_attention sage_attention sdp_attention sdpa_varlen selective_checkpointing shift_attn
shrink_embeddings shuffle_before_merging_datasets shuffle_dataset skip_memory_metrics skip_special_tokens strict
temperature tf32 tokenizer_legacy tokenizer_save_jinja_files tokenizer_type tokenizer_use_fast top_k top_p
torchdistx_path total_num_tokens total_supervised_tokens train_from_scratch trainer_cls trl trust_remote_code
type_of_model unfrozen_parameters upcast_layernorm upcast_lmhead_output weight_decay world_size xformers_attention
"""
_NAMES = frozenset(_TEXT.split())

_SAVED = "change a tokenizer, save it, and name its folder under `tokenizer`"
_SLICE = "write `split: train[:50%]` or another slice under each dataset"
REFUSED: Mapping[str, tuple[str, str]] = {
    "pretraining_dataset": ("`datasets`", "write `datasets` with `format: text`"),
    "streaming": ("false", "use dataset.map(fmt, batched=True) on a stream"),
    "skip_prepare_dataset": ("false", "hand prepared data to the trainer"),
    "dataset_shard_num": ("a slice", _SLICE),
    "dataset_shard_idx": ("a slice", _SLICE),
    "min_sample_len": ("none; rows may be short", "take short rows out of the data"),
    "max_packed_sequence_len": ("`sequence_len`", "write `sequence_len`"),
    "push_dataset_to_hub": ("none", "push the prepared dataset: load_from_disk(path).push_to_hub(name)"),
    "role_boundaries": ("none; the template tells whose words are whose", "take it out"),
    "tool_format": ("none: the template writes the calls", "take it out, or write a template with that form of calls"),
    "preserve_thinking": (
        "false: the template writes the history",
        "take it out, and name what the template knows in `template_kwargs`",
    ),
    "split_special_tokens": ("false", "take it out: text of a row is never a control token here"),
    "tokens": ("none", _SAVED),
    "added_tokens_overrides": ("none", _SAVED),
    "add_tokens": ("none", _SAVED),
    "add_special_tokens": ("none", _SAVED),
    "new_special_tokens_config": ("none", _SAVED),
    "tokenizer_use_mistral_common": ("false", "take it out: a tokenizer of transformers is read"),
    "model_revision": ("`main`", "download that revision, and name its folder under `tokenizer`"),
    "revision_of_model": ("`main`", "download that revision, and name its folder under `tokenizer`"),
}
"""Keys that may be off, but not on: what is expected, and what to write instead."""
HARMLESS: Mapping[str, str] = {"model_revision": "main", "revision_of_model": "main"}
"""Their values that mean here what they mean there."""


def is_trainers(key: str) -> bool:
    """Whether a key says something to the trainer alone, or to the model's loader.

    >>> is_trainers("lora_r"), is_trainers("learning_rate"), is_trainers("max_length")
    (True, True, False)
    """
    return key in _NAMES or key.startswith(_PREFIXES)
