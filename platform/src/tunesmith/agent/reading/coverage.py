"""Which words may be left over: words that carry no wish of their own. Every other one that no rule consumed is asked about."""

from __future__ import annotations


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


IDLE = words(
    """
    a an the this that these those it its they them their there here such same own which whose how
    i me my mine we us our ours you your yours team somebody something
    is are be been being am was were will would shall should may might can could do does did done has have had having got
    and or but so then also too as at by for from in into of on onto over to with within via per through during while w about across
    if when once where because since until than both each every either all any some together new named called first second exactly
    please kindly thanks thank hi hello hey dear agent ok okay well now just simply basically again let want wants wanted like need needs
    love goal task job session run runs running go going get gets make makes making take takes give given see learn learns tell
    use uses used using try tries trying tried start starting kick off begin set sets setting settings put pick picks choose keep keeping
    build builds building everything anything lot enough
    train trains training trained tune tunes tuning tuned fine finetune model models base dataset datasets data set prompts pair pairs
    preference preferences preferred sweep sweeping sweeps search grid candidate candidates config configs configuration configurations
    variant variants value values option options parameter parameters hyper hp hps number numbers size total amount winner winning best
    compare comparing comparison evaluate evaluating evaluation eval score scores scoring measure measured metric
    lora adapter adapters rank ranks learning rate rates lr lrs epoch epochs
    following one x : , ( ) - / & = " ' + > <
    """
)
"""Function words, politeness, and the nouns of the trade by themselves. Limits, comparatives and negations are not here: they mean something."""

COURTEOUS = words(
    """
    please kindly thanks thank you a lot hi hello hey dear agent team and so then now just well , - : ' " i we am me let the to with it this
    that is would like want
    """
)
"""What may stand beside an approval. Fewer words than elsewhere: `yes, that is my dataset` approves nothing."""

KNOWN_WORDS = IDLE | words(
    """
    held hold out full auto generated agent validation loss sub sample sampling subsample pre re retrain retraining end pass non
    question answer follow up co user assistant multi turn class classification supervised direct optimization low adaptation
    deploy deployed test sized left right known top self made ready built ahead thumbs yes no max min step steps batch context length
    window parallel single two three side down deployment tokens samples rows evaluator final seed random beta betas approve approval
    """
)
"""A hyphenated token made of these alone is English, not a name."""
