import pytest

from annotation import budget


def true_tokens(text):
    """A tokenizer for which digits are dense and words are not."""
    return sum(1 if character.isdigit() or character in "[]," else 0.2 for character in text)


def test_a_reservation_is_never_too_small_and_soon_not_half_too_large():
    """Prompts of more people have more digits a byte than those of one."""
    tokens = budget.PromptTokens()
    system = "You describe a body in words that everybody understands. " * 30
    for people in (1, 1, 2, 1, 20, 3, 40, 20):
        text = system + "[123,456]," * 16 * people
        assert true_tokens(text) <= tokens.at_most(text) <= len(text) + 16
        tokens.learn(text, round(true_tokens(text)))
        assert tokens.at_most(text) < 1.5 * true_tokens(text) + 16


def test_the_estimate_counts_words_numbers_and_marks():
    assert budget.estimate_tokens("The left arm, [120, 7].") == 3 + 1 + 5 + 1
    assert budget.estimate_tokens("12345") == 2


def test_money_is_per_million_and_open_where_the_price_is_not_known():
    assert budget.cost((2.0, 8.0), 1000, 500) == pytest.approx(0.006)
    assert budget.cost((0.0, 0.0), 1000, 500) == 0
    assert budget.cost(None, 1000, 500) is None
    assert [budget.dollars(amount) for amount in (0.00012, 3.5, 1234.567)] == [
        "$0.0001",
        "$3.5000",
        "$1234.57",
    ]
