"""Hydra and OmegaConf, which nobody else imports: recipes out of files and overrides."""
