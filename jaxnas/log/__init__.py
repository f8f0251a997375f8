"""Runs where users already look: TensorBoard and optuna-dashboard; a module each."""
