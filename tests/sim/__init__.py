"""The deterministic simulator: the whole engine on one thread, with a seed that decides who is stepped, what fails and when."""
