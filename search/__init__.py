"""What to try next and what was learned: the only room that knows both tts and evaluation."""
