"""Versions of evaluators, control of running jobs, when a job changed, and what tables show of a rollout.

Revision: 0004, after 0003.
"""

import sqlalchemy as sa
from alembic import op

revision = '0004'
down_revision = '0003'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('evaluator_versions',
    sa.Column('name', sa.String(), nullable=False),
    sa.Column('evaluator', sa.String(), nullable=False),
    sa.Column('version', sa.Integer(), nullable=False),
    sa.Column('archive_key', sa.String(), nullable=False),
    sa.Column('entry_point', sa.String(), nullable=False),
    sa.Column('origin', sa.String(), nullable=False),
    sa.Column('message', sa.Text(), nullable=False),
    sa.Column('state', sa.String(), nullable=False),
    sa.Column('status', sa.JSON(), nullable=False),
    sa.Column('build_dir', sa.String(), nullable=True),
    sa.Column('build_log', sa.Text(), nullable=False),
    sa.Column('described', sa.JSON(), nullable=False),
    sa.Column('created', sa.Float(), nullable=False),
    sa.Column('updated', sa.Float(), nullable=False),
    sa.PrimaryKeyConstraint('name')
    )
    with op.batch_alter_table('evaluator_versions', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_evaluator_versions_evaluator'), ['evaluator'], unique=False)

    # What an evaluator is at is its first version that is kept.
    op.execute("""
        INSERT INTO evaluator_versions (name, evaluator, version, archive_key, entry_point, origin, message, state, status,
            build_dir, build_log, described, created, updated)
        SELECT name || '/versions/' || version, name, version, archive_key, COALESCE(json_extract(spec, '$.entryPoint'), ''),
            'upload', '', state, status, CASE state WHEN 'ACTIVE' THEN build_dir END, build_log, '{}', updated, updated
        FROM evaluators WHERE archive_key IS NOT NULL
    """)

    with op.batch_alter_table('jobs', schema=None) as batch_op:
        batch_op.add_column(sa.Column('control', sa.JSON(), nullable=False, server_default='{}'))
        batch_op.add_column(sa.Column('updated', sa.Float(), nullable=False, server_default='0'))
        batch_op.create_index(batch_op.f('ix_jobs_updated'), ['updated'], unique=False)
    op.execute('UPDATE jobs SET updated = COALESCE(completed, started, created)')

    with op.batch_alter_table('rollouts', schema=None) as batch_op:
        batch_op.add_column(sa.Column('time', sa.Float(), nullable=True))
        batch_op.add_column(sa.Column('prompt', sa.Text(), nullable=True))
        batch_op.add_column(sa.Column('answer', sa.Text(), nullable=True))
        batch_op.add_column(sa.Column('metrics', sa.JSON(), nullable=True))
        batch_op.add_column(sa.Column('turns', sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column('completion_tokens', sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column('truncated', sa.Boolean(), nullable=True))
        batch_op.add_column(sa.Column('advantage', sa.Float(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table('rollouts', schema=None) as batch_op:
        for column in ('advantage', 'truncated', 'completion_tokens', 'turns', 'metrics', 'answer', 'prompt', 'time'):
            batch_op.drop_column(column)

    with op.batch_alter_table('jobs', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_jobs_updated'))
        batch_op.drop_column('updated')
        batch_op.drop_column('control')

    with op.batch_alter_table('evaluator_versions', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_evaluator_versions_evaluator'))

    op.drop_table('evaluator_versions')
