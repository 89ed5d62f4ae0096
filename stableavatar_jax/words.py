"""Numbers as people read them: how many, how long, how large."""


def count(number: int, noun: str) -> str:
    """A number and what is counted, in the singular or the plural: `1 clip`, `3 clips`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}{'es' if noun.endswith('ch') else 's'}"


def duration(seconds: float | int) -> str:
    """A length of time in the two largest of its units."""
    whole_seconds = round(seconds)
    minutes, rest = divmod(whole_seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.3g} s" if seconds < 10 else f"{whole_seconds} s"


def size(number: int) -> str:
    """A number of bytes, in kB, MB or GB."""
    unit, name = next(each for each in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if number >= each[0] or each[1] == "kB")
    return f"{number / unit:.1f} {name}"
