"""From configurations to modules: the only place where both are known.

Modules take plain numbers; each choice between variants is one `match` here.
"""

from __future__ import annotations

from collections.abc import Mapping

from speechvq.errors import ConfigError
from speechvq.models.config import (
    CTCModelConfig,
    EMAConfig,
    FeatureNorm,
    Features,
    FSQConfig,
    GumbelConfig,
    Objective,
    PretrainModelConfig,
    QuantizerConfig,
    RandomProjectionConfig,
    SimVQConfig,
    VQConfig,
)
from speechvq.models.ctc_model import CTCModel
from speechvq.models.encoder import SpeechEncoder
from speechvq.models.pretrain_model import PretrainModel
from speechvq.models.vocabulary import Vocabulary
from speechvq.nn.contrastive import ContrastiveTask
from speechvq.nn.conv_features import ConvFeatureExtractor
from speechvq.nn.ema_quantizer import EMAQuantizer
from speechvq.nn.fbank_features import FbankFeatureExtractor
from speechvq.nn.front_end import FrontEnd
from speechvq.nn.fsq import FiniteScalarQuantizer
from speechvq.nn.gumbel_quantizer import GumbelQuantizer
from speechvq.nn.positions import ConvPositions
from speechvq.nn.prediction import PredictionTask
from speechvq.nn.quantizer import Quantizer
from speechvq.nn.random_projection import RandomProjectionQuantizer
from speechvq.nn.simvq import SimVQuantizer
from speechvq.nn.transformer import Encoder
from speechvq.nn.vector_quantizer import VectorQuantizer


def create_pretrain_model(config: PretrainModelConfig) -> PretrainModel:
    """Builds a model for pretraining with fresh weights from torch's generator.

    Args:
        config: Its configuration.

    Returns:
        The model, on the CPU, in training mode.

    Raises:
        ConfigError: The configuration cannot work.
    """
    _raise_problems(config.validate())
    encoder = _create_speech_encoder(config)
    quantizer = create_quantizer(config.quantizer, encoder.front_end.output_dim)
    return PretrainModel(
        encoder,
        quantizer,
        _create_task(config, quantizer),
        dropout_features=config.dropout_features,
        config=config,
    )


def create_ctc_model(config: CTCModelConfig, vocabularies: Mapping[str, Vocabulary]) -> CTCModel:
    """Builds a recogniser with fresh weights from torch's generator.

    Args:
        config: Its configuration.
        vocabularies: By language code.

    Returns:
        The model, on the CPU, in training mode.

    Raises:
        ConfigError: The configuration cannot work.
    """
    _raise_problems(config.validate())
    return CTCModel(
        _create_speech_encoder(config),
        vocabularies,
        model_dim=config.encoder.model_dim,
        dropout_final=config.dropout_final,
        config=config,
    )


def create_quantizer(config: QuantizerConfig, input_dim: int) -> Quantizer:
    """Builds a quantiser of the kind that the type of its configuration says.

    Args:
        config: Its configuration.
        input_dim: Channels of the features.

    Returns:
        The quantiser.

    Raises:
        ConfigError: There is no quantiser for this type.
    """
    options = {
        "num_codebooks": config.num_codebooks,
        "codebook_size": config.codebook_size,
    }
    match config:
        case GumbelConfig():
            return GumbelQuantizer(input_dim, config.code_dim, **options)
        case SimVQConfig():
            return SimVQuantizer(
                input_dim,
                config.code_dim,
                **options,
                commitment=config.commitment,
                rotates=config.rotates,
                learns_basis=config.learns_basis,
                shares_basis=config.shares_basis,
            )
        case EMAConfig():
            return EMAQuantizer(
                input_dim,
                config.code_dim,
                **options,
                commitment=config.commitment,
                rotates=config.rotates,
                decay=config.decay,
                restart_share=config.restart_share,
            )
        case VQConfig():
            return VectorQuantizer(
                input_dim,
                config.code_dim,
                **options,
                commitment=config.commitment,
                rotates=config.rotates,
            )
        case FSQConfig():
            return FiniteScalarQuantizer(
                input_dim, num_codebooks=config.num_codebooks, levels=config.levels
            )
        case RandomProjectionConfig():
            return RandomProjectionQuantizer(input_dim, config.code_dim, **options)
    raise ConfigError([f"`quantizer` cannot be a {type(config).__name__}."])


def _create_task(
    config: PretrainModelConfig, quantizer: Quantizer
) -> ContrastiveTask | PredictionTask:
    match config.objective:
        case Objective.contrastive:
            return ContrastiveTask(
                config.encoder.model_dim,
                quantizer.output_dim,
                config.final_dim,
                logit_temperature=config.logit_temperature,
            )
        case Objective.prediction:
            return PredictionTask(
                config.encoder.model_dim,
                num_codebooks=quantizer.num_codebooks,
                codebook_size=quantizer.codebook_size,
            )


def _create_front_end(config: PretrainModelConfig | CTCModelConfig) -> FrontEnd:
    match config.features:
        case Features.fbank:
            return FbankFeatureExtractor(
                config.fbank.num_mels, config.fbank.stack, normalize=config.fbank.normalize
            )
        case Features.waveform:
            return ConvFeatureExtractor(
                config.waveform.dims,
                config.waveform.kernels,
                config.waveform.strides,
                layer_norm=config.waveform.norm is FeatureNorm.layer,
                bias=config.waveform.bias,
                normalize=config.waveform.normalize,
                masked_statistics=config.waveform.masked_statistics,
            )


def _create_speech_encoder(config: PretrainModelConfig | CTCModelConfig) -> SpeechEncoder:
    encoder = config.encoder
    return SpeechEncoder(
        _create_front_end(config),
        ConvPositions(
            encoder.model_dim, kernel=encoder.position_kernel, groups=encoder.position_groups
        ),
        Encoder(
            encoder.num_layers,
            encoder.model_dim,
            encoder.num_heads,
            encoder.ffn_dim,
            conv_kernel=encoder.conv_kernel,
            norm_first=encoder.norm_first,
            dropout=encoder.dropout,
            attention_dropout=encoder.attention_dropout,
            activation_dropout=encoder.activation_dropout,
            layer_drop_prob=encoder.layer_drop_prob,
        ),
        model_dim=encoder.model_dim,
        dropout_input=config.dropout_input,
        feature_grad_scale=config.feature_grad_scale,
    )


def _raise_problems(problems: list[str]) -> None:
    if problems:
        raise ConfigError(problems)
