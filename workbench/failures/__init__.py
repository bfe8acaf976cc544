"""Why a comparison came out as it did: the classic failures of fine-tuning, and what lies behind them."""
