"""Write every dashboard in every language: `python -m boards`."""

from pathlib import Path

from boards.build import LANGUAGES, text

FOLDER = Path(__file__).parent.parent / "dashboards"


def main() -> None:
    for language in LANGUAGES:
        for name, content in text(language).items():
            file = FOLDER / language / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(content)
            print(file)


if __name__ == "__main__":
    main()
