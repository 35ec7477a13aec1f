"""What a reply is to do: sub-tasks, their labels, and the prompts in which a language model chooses one (LLMCRS)."""
