"""Keys that belong to the trainer alone, in the words of axolotl, LLaMA-Factory, TRL and transformers.

Source: the schemas of axolotl 0.19 (`utils/schemas`), LLaMA-Factory 0.9.5 (`hparams`), TRL 1.16 and transformers 5.23
(`TrainingArguments`); names only.
"""

from __future__ import annotations

__all__ = ["is_trainers"]

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
adapter adapter_name_or_path additional_target auto_find_batch_size auto_resume_from_checkpoints bf16 bf16_full_eval
bfloat16 base_model_config batch_flattening batch_size chunked_cross_entropy cosine_constant_lr_ratio
cosine_min_lr_ratio create_new_adapter cls_model_config curriculum_sampling data_seed dataset_keep_in_memory
dataset_shard_num dataset_shard_idx debug deepcompile device device_map disable_gradient_checkpointing
disable_shuffling disable_tqdm double_quantization dynamic_checkpoint eager_attention embedding_lr
embedding_lr_scale enable_liger_kernel evaluation_strategy experts_implementation finetuning_type
fix_untrained_tokens float16 float32 fp16 fp8 fp8_config full_determinism gpu_memory_limit greater_is_better
group_by_length ignore_data_skip ignore_pad_token_for_loss include_num_input_tokens_seen include_tkps
include_tokens_per_second init_special_tokens is_falcon_derived_model is_llama_derived_model
is_mistral_derived_model label_names label_smoothing_factor layer_offloading learning_rate load_best_model_at_end
load_in_4bit load_in_8bit local_rank loftq_bits loftq_config loss_type low_cpu_mem_usage max_grad_norm max_memory
max_steps mean_resizing_embeddings merge_lora metric_for_best_model micro_batch_size mixture_of_depths
model_revision model_type moe_aux_loss_coef multipack_real_batches neat_packing num_epochs num_train_epochs
output_dir overwrite_cache overwrite_output_dir packing_strategy pad_to_multiple_of pad_to_sequence_len padding_free
plot_loss plugins preprocess_shards preprocessing_batch_size pure_bf16 quantization_bit remove_unused_columns
resize_token_embeddings_to_32x resize_vocab resume_from_checkpoint revision_of_model router_aux_loss_coef run_name
s2_attention sage_attention sdp_attention seed shift_attn shuffle_before_merging_datasets shuffle_dataset
shuffle_merged_datasets skip_memory_metrics strict tf32 tokenizer_legacy tokenizer_type tokenizer_use_fast
tool_format train_from_scratch trainer_cls trl trust_remote_code unfrozen_parameters upcast_layernorm weight_decay
world_size xformers_attention
"""
_NAMES = frozenset(_TEXT.split())


def is_trainers(key: str) -> bool:
    """Whether a key says something to the trainer alone, or to the model's loader.

    >>> is_trainers("lora_r"), is_trainers("learning_rate"), is_trainers("max_length")
    (True, True, False)
    """
    return key in _NAMES or key.startswith(_PREFIXES)
