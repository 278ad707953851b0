"""Trainers: SFT, reward model, DPO and PPO, each a readable script over a well-kept library."""
