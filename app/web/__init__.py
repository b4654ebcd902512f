"""The page: draws, chats and compares speeds in a browser (Gradio, extra `web`)."""
