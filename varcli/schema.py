"""What all config files share: their tables, and the options of the training loop; importable without torch."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A table of the config file: unknown keys are refused, values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TrainConfig(Section):
    """How a model of any family is trained."""

    steps: int = Field(default=10_000, ge=1, description="Optimiser steps.")
    batch_size: int = Field(default=8, ge=1, description="Crops per step and process.")
    optimizer: Literal["adamw", "muon"] = Field(
        default="adamw",
        description="Muon makes the updates of the networks' inner matrices orthogonal; all others are AdamW's.",
    )
    learning_rate: float = Field(default=1e-3, gt=0, description="Peak learning rate.")
    muon_learning_rate: float = Field(
        default=3e-3, gt=0, description="Peak learning rate of Muon, whose updates are scaled to the size of AdamW's."
    )
    warmup_steps: int = Field(default=200, ge=0, description="Steps of linear warm-up before the decay.")
    decay_share: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Share of the steps, the last ones, in which the rate falls: 1 is a cosine after the warm-up, less "
        "a straight line after a constant rate.",
    )
    final_lr_share: float = Field(default=0.02, ge=0, le=1, description="Share of the peak rate left at the end.")
    weight_decay: float = Field(default=0.05, ge=0, description="Weight decay, on matrices only.")
    grad_clip: float = Field(default=1.0, gt=0, description="Largest gradient norm.")
    ema_decay: float = Field(
        default=0.999, ge=0, lt=1, description="Decay of the averaged weights that are validated and shipped."
    )
    seed: int = Field(default=0, ge=0, description="Seed of initialisation, crops and masks.")
    precision: Literal["fp32", "bf16"] = Field(default="fp32", description="bf16 runs the matrix work in bfloat16.")
    store: Literal["fp32", "fp16"] = Field(default="fp32", description="Number format of the weights in checkpoints.")
    compile: bool = Field(default=False, description="Compile the model with torch.compile.")
    validate_every: int = Field(default=500, ge=1, description="Steps between validations.")
    validation_crops: int = Field(default=64, ge=1, description="Crops scored at each validation.")
    save_every: int = Field(default=500, ge=1, description="Steps between checkpoints.")
    sample_every: int = Field(default=0, ge=0, description="Steps between sample pictures; 0 draws none.")
    tensorboard: bool = Field(default=False, description="Also write TensorBoard events.")
