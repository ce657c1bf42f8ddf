"""Text in, audio out, fast. Knows nothing of Optuna, MLflow, search or evaluation."""
