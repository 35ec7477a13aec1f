"""Language models: GPT-2, Llama, BERT; adapters, quantisation, conversion, sharding rules."""
