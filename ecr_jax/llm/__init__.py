"""Large language models behind any OpenAI-compatible address: the client, its cache, structured answers, a writer."""
