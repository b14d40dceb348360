"""The whole line on synthetic speech: synthesise, prepare, pretrain, finetune, evaluate, one page.

python -m recipes.demo output=demo              # about 15 minutes on two cores
python -m recipes.demo output=demo preset=ci    # about two minutes, proves that it runs
"""

from __future__ import annotations

from speechvq.config.application import launch
from speechvq.demo.config import DemoConfig


def run(config: DemoConfig) -> None:
    """Run every stage that is not done yet, then write the page."""
    from speechvq.demo.closing import open_page, print_closing
    from speechvq.demo.line import run_line

    page = run_line(config)
    print_closing(page)
    open_page(page)


def main() -> None:
    """Entry point of `python -m recipes.demo` and `speechvq demo`."""
    launch(run, DemoConfig, "demo")


if __name__ == "__main__":
    main()
