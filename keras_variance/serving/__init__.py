from keras_variance.serving.server import write_models_config, write_warmup

__all__ = ["write_models_config", "write_warmup"]
